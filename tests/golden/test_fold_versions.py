"""Releases side by side fold one log to equal states, and a release that cannot says so before it folds anything."""

import asyncio
import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import RecordedEffect, decisions_digest
from pagekeeper.core.errors import ReleaseTooOld
from pagekeeper.core.fold_rules import FOLD_VERSION, UNNAMED_FOLD_VERSION, WRITES_FOLD_VERSION
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.sessions import Request
from pagekeeper.v1 import event_pb2, session_pb2
from tests.golden.folding import (
    GOLDEN_DECISIONS_OF_POLICIES,
    GOLDEN_LOG,
    GOLDEN_STATES_OF_NEWEST_RULES,
    fold,
    named,
    with_policy,
)
from tests.unit.stack import Replica, Stores, following, key, ready
from tests.unit.test_eviction import mapped

UNKNOWN_RULES = FOLD_VERSION + 1
ARCHIVED = event_pb2.ArchivedHistory.FromString(GOLDEN_LOG.read_bytes())
LAST = ARCHIVED.records[-1].revision
VERSIONS = range(UNNAMED_FOLD_VERSION, FOLD_VERSION + 1)


def digests(archived: event_pb2.ArchivedHistory, until: int = LAST, *, through_snapshots: bool = False) -> list[str]:
    session, effects = fold(archived, until=until, through_snapshots=through_snapshots)
    return [codec.state_digest(session).hex(), decisions_digest(effects).hex()]


def test_a_release_writes_what_the_release_before_can_fold() -> None:
    assert UNNAMED_FOLD_VERSION <= WRITES_FOLD_VERSION <= FOLD_VERSION
    session = Session()
    for policy in POLICIES.values():
        opened = ev.SessionOpened(ev.SessionConfig(eviction_policy=policy.name))
        written = decisions.transaction(session, "request", b"digest", 1, (opened,))
        assert written.fold_version == max(WRITES_FOLD_VERSION, policy.fold_version)


def test_a_session_is_written_by_rules_that_its_policy_s_releases_know() -> None:
    """Newer rules than those of the release before, where that release does not know the policy anyway."""
    session = Session()
    opened = ev.SessionOpened(ev.SessionConfig(eviction_policy="reuse/5"))
    session.apply(1, decisions.transaction(session, "r1", b"", 0, (opened,)))
    assert decisions.transaction(session, "r2", b"", 0, (ev.TurnBegun(),)).fold_version == FOLD_VERSION
    before = ev.SessionConfigured(ev.SessionConfig(eviction_policy="reuse/4"))
    session.apply(2, decisions.transaction(session, "r2", b"", 0, (before,)))
    assert decisions.transaction(session, "r3", b"", 0, (ev.TurnBegun(),)).fold_version == FOLD_VERSION, "it was needed"


def test_the_golden_log_folds_alike_whether_its_rules_are_named_or_not() -> None:
    """The release before does not read the field; this release writes it."""
    assert digests(named(ARCHIVED, lambda _: UNNAMED_FOLD_VERSION)) == digests(ARCHIVED)


def test_the_golden_log_by_the_newest_rules_folds_to_what_it_folded_to() -> None:
    """Otherwise sessions that were written by these rules would wake up as something else."""
    newest = named(ARCHIVED, lambda _: FOLD_VERSION)
    for state in json.loads(GOLDEN_STATES_OF_NEWEST_RULES.read_text()):
        expected = [state["state_sha256"], state["decisions_sha256"]]
        assert digests(newest, state["revision"]) == expected


@settings(max_examples=5)
@given(versions=st.lists(st.sampled_from(VERSIONS), min_size=len(ARCHIVED.records), max_size=len(ARCHIVED.records)))
def test_a_log_of_both_rules_folds_alike_on_every_replica(versions: list[int]) -> None:
    """Whichever release wrote a transaction, and whatever snapshots a replica started from."""
    given_versions = iter(versions)
    mixed = named(ARCHIVED, lambda _: next(given_versions))
    middle = ARCHIVED.records[120].revision
    assert digests(mixed, middle) == digests(mixed, middle, through_snapshots=True)


def _version_at(revision: int, fold_version: int, kept: event_pb2.ArchivedRecord) -> int:
    return fold_version if kept.revision == revision else 0


def test_a_state_names_the_newest_rules_that_led_to_it() -> None:
    middle = ARCHIVED.records[100].revision
    for version in VERSIONS:
        session, _ = fold(named(ARCHIVED, partial(_version_at, middle, version)), until=middle)
        assert event_pb2.SessionSnapshot.FromString(codec.encode_state(session)).fold_version == version


def appended(fold_version: int) -> tuple[Session, list[RecordedEffect]]:
    """A full session to which four pages are appended at once."""
    session = Session()
    config = ev.SessionConfig(
        max_l0_tokens=1_000, reserved_tokens=0, eviction_threshold=1.0, target_utilization=0.8, eviction_policy="lru/1"
    )
    effects: list[RecordedEffect] = []

    def apply(event: ev.Event) -> None:
        revision = session.revision + 1
        effects.extend(session.apply(revision, ev.Transaction(f"r{revision}", b"", 0, (event,), fold_version)))

    apply(ev.SessionOpened(config))
    for number in range(10):
        apply(ev.TurnBegun())
        apply(ev.PagesMapped((mapped(f"p{number}", "read"),)))
    effects.clear()
    apply(ev.PagesMapped(tuple(mapped(f"q{number}", "read") for number in range(4))))
    return session, effects


def test_pages_of_one_event_make_room_once_by_the_newest_rules() -> None:
    (each, by_each), (once, by_once) = appended(UNNAMED_FOLD_VERSION), appended(FOLD_VERSION)
    assert [type(effect.what).__name__ for effect in by_each[:4]] == ["Evicted"] * 3 + ["Admitted"]
    assert "Evicted" in [type(effect.what).__name__ for effect in by_each[4:]], "the third page makes room again"
    kinds = [type(effect.what).__name__ for effect in by_once]
    assert kinds[:10] == ["Evicted"] * 6 + ["Admitted"] * 4
    assert each.working_set.used_tokens <= 1_000
    assert once.working_set.used_tokens == 800


# What a release does not know


NEWER = ev.SessionConfig(eviction_policy="reuse/99")
OF_A_NEWER_RELEASE = [
    ev.Transaction("r", b"", 0, (ev.TurnBegun(),), UNNAMED_FOLD_VERSION - 1),
    ev.Transaction("r", b"", 0, (ev.TurnBegun(),), UNKNOWN_RULES),
    ev.Transaction("r", b"", 0, (ev.TurnBegun(), ev.SessionConfigured(NEWER))),
    ev.Transaction("r", b"", 0, (ev.SessionOpened(NEWER),)),
]


@pytest.mark.parametrize("transaction", OF_A_NEWER_RELEASE)
def test_it_is_refused_before_anything_changes(transaction: ev.Transaction) -> None:
    session, _ = fold(ARCHIVED, until=ARCHIVED.records[60].revision)
    before = codec.encode_state(session)
    with pytest.raises(ReleaseTooOld, match="this release is too old for the session"):
        session.apply(session.revision + 1, transaction)
    assert codec.encode_state(session) == before


def test_a_transaction_of_unknown_rules_is_refused_before_its_events_are_read() -> None:
    """A newer release may have kinds of events that this one cannot decode."""
    of_a_kind_unknown = event_pb2.Event.FromString(b"\xfa\x7f\x00")
    message = event_pb2.Transaction(events=[of_a_kind_unknown], fold_version=UNKNOWN_RULES)
    with pytest.raises(ReleaseTooOld, match=f"fold rules {UNKNOWN_RULES}"):
        codec.decode_transaction(message)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(event_pb2.SessionSnapshot(fold_version=UNKNOWN_RULES), id="rules"),
        pytest.param(
            event_pb2.SessionSnapshot(config=session_pb2.SessionConfig(eviction_policy="reuse/99")), id="policy"
        ),
    ],
)
def test_a_snapshot_of_a_newer_release_is_refused(changed: event_pb2.SessionSnapshot) -> None:
    state = codec.state_message(fold(ARCHIVED, until=ARCHIVED.records[60].revision)[0])
    state.MergeFrom(changed)
    with pytest.raises(ReleaseTooOld):
        codec.decode_state(state.SerializeToString(), 1)


def _newer_rules() -> bytes:
    transaction = event_pb2.Transaction(operation_id="newer", fold_version=UNKNOWN_RULES)
    return event_pb2.LogRecord(transaction=transaction).SerializeToString()


def _unknown_policy() -> bytes:
    return codec.encode_transaction(ev.Transaction("newer", b"", 0, (ev.SessionConfigured(NEWER),)))


@pytest.mark.parametrize("record", [_newer_rules, _unknown_policy, event_pb2.LogRecord().SerializeToString])
def test_a_replica_refuses_that_session_and_serves_all_others(record: Callable[[], bytes]) -> None:
    async def play() -> None:
        stores = await ready(Stores())
        replica = Replica(stores)
        async with following(replica):
            for session_id in ("s1", "s2"):
                await replica.open(session_id)
            revision = (await replica.fold()).revision
            await stores.log.append(
                key("s1"), expected_revision=revision, operation_id="newer", data=record(), touches=()
            )
            for _ in range(2):
                with pytest.raises(ReleaseTooOld):
                    await replica.sessions.read(key("s1"), strict=True)
                with pytest.raises(ReleaseTooOld):
                    await replica.sessions.commit(key("s1"), Request("r", b""), lambda _session: ev.TurnBegun())
            assert (await replica.fold("s2")).exists
            assert (await replica.open("s3")).revision > 0

    asyncio.run(play())


# Policies that were released

DECIDED = json.loads(GOLDEN_DECISIONS_OF_POLICIES.read_text())


def test_every_policy_that_was_released_is_known() -> None:
    assert {"lru/1", "importance-lru/1", "reuse/1", "reuse/2", "reuse/3", "reuse/4", "reuse/5"} <= set(DECIDED)
    assert set(DECIDED) == set(POLICIES)


@pytest.mark.parametrize("policy", DECIDED)
def test_a_policy_decides_what_it_decided_when_it_was_released(policy: str) -> None:
    assert digests(with_policy(ARCHIVED, policy))[1] == DECIDED[policy]
