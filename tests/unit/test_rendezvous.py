"""Replicas that join or leave move the sessions that they get or had, and no others."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.runtime.rpc.rendezvous import home_of, salt_of

REPLICAS = st.sets(st.integers(0, 30), min_size=1, max_size=8).map(
    lambda numbers: [f"10.0.0.{n}:7400" for n in numbers]
)
SESSIONS = [f"acme/s{number}" for number in range(600)]


def homes(replicas: list[str]) -> dict[str, str]:
    return {session: home_of(session, replicas, salt_of) for session in SESSIONS}


@given(REPLICAS, st.randoms(use_true_random=False))
def test_everybody_finds_the_same_home(replicas: list[str], random: Random) -> None:
    shuffled = list(replicas)
    random.shuffle(shuffled)
    assert homes(replicas) == homes(shuffled)


@given(REPLICAS)
def test_only_the_sessions_of_one_that_leaves_move(replicas: list[str]) -> None:
    leaves = "10.0.0.99:7400"
    before, after = homes([*replicas, leaves]), homes(replicas)
    assert all(before[session] in (after[session], leaves) for session in SESSIONS)
    moved = sum(before[session] == leaves for session in SESSIONS)
    share = len(SESSIONS) / (len(replicas) + 1)
    assert share / 2 < moved < share * 2


@given(st.text(max_size=80))
def test_any_text_has_a_home(session: str) -> None:
    assert home_of(session, ["a:1", "b:2"], salt_of) in ("a:1", "b:2")
