"""What the growth of costs is judged by: operations are counted, rows compared, needs computed from slopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measuring import measure_for
from bench.scale.capacity import SESSIONS, growth_rows, needs
from bench.scale.meter import Row
from bench.scale.report import must_of
from bench.texts import Texts

KIB = 1024


def row(name: str, parameter: str, at: int, cpu_us: float, p50_ms: float = 1.0) -> Row:
    return Row(name, parameter, at, cpu_us, p50_ms, p50_ms, 100)


def growing(name: str, parameter: str, first: int, last: int, slope: int) -> list[dict[str, object]]:
    """Sizes that start somewhere and take so many bytes more for each one more."""
    return [{"name": name, "parameter": parameter, "at": at, "bytes": 7 * KIB + at * slope} for at in (first, last)]


@pytest.mark.parametrize(
    ("name", "parameter", "first", "last", "factor_max"),
    [
        ("turn", "replicas", 1, 4, 1.1),
        ("fault", "replicas", 1, 4, 1.1),
        ("turn", "turns", 100, 3_000, 1.2),
        ("turn", "sessions", 1, 1_000, 1.2),
        ("assemble_recall", "pages", 200, 10_000, 1.2),
    ],
)
def test_an_operation_may_become_only_so_much_dearer(
    name: str, parameter: str, first: int, last: int, factor_max: float
) -> None:
    begin = row(name, parameter, first, 1_000.0)
    for cpu_us, holds in ((1_000.0 * factor_max, True), (1_000.0 * factor_max + 1, False)):
        end = row(name, parameter, last, cpu_us)
        judged = must_of(end, [begin, end])
        assert judged is not None
        assert judged[1] is holds
        assert must_of(end, [end]) is None
    assert must_of(begin, [begin]) is None


def test_a_cold_recall_has_its_latency() -> None:
    for p50_ms, holds in ((150.0, True), (151.0, False)):
        one = row("cold_recall", "pages", 10_000, 1.0, p50_ms)
        assert must_of(one, [one]) == ("p50 ≤ 150 ms", holds)


@given(slope=st.integers(1, 1_000_000), first=st.integers(1, 100), more=st.integers(1, 10_000))
def test_what_processes_take_from_the_start_is_not_multiplied(slope: int, first: int, more: int) -> None:
    sizes = growing("disk of nats", "sessions", first, first + more, slope)
    found = {need.what: need for need in needs({"sessions": {"rows": [], "sizes": sizes}})}
    others = growing("disk of nats", "sessions", 1, 2, slope)
    same = {need.what: need for need in needs({"sessions": {"rows": [], "sizes": others}})}
    assert found == same
    assert set(found) == {"disk, each NATS server", "sessions until the log is full"}
    assert found["disk, each NATS server"].how.startswith(f"{SESSIONS:,} sessions x ")


def test_cores_follow_from_the_cpu_of_a_turn_in_an_old_session() -> None:
    rows = [
        {"name": "turn", "parameter": "turns", "at": 100, "cpu_us": 1.0},
        {"name": "turn", "parameter": "turns", "at": 3_000, "cpu_us": 36_000.0},
    ]
    [cores] = needs({"turns": {"rows": rows, "sizes": []}})
    # 10,000 active sessions are 167 turns a second, each 36 ms, on cores that work for 60 % of the time.
    assert (cores.what, cores.amount) == ("cores, for all services and NATS", "10")


def test_what_was_not_measured_is_not_claimed() -> None:
    assert needs({"sessions": {"rows": [], "sizes": growing("disk of nats", "sessions", 1, 2, 1)[:1]}}) == []


def test_a_line_of_growth_has_every_value_and_how_often_the_first_the_last_is() -> None:
    rows = [
        {"name": "search", "parameter": "tenants", "at": at, "cpu_us": cpu_us, "p50_ms": p50_ms}
        for at, cpu_us, p50_ms in ((1, 2_000.0, 4.5), (1_000, 30_000.0, 41.2))
    ]
    assert growth_rows(rows) == [["search", "tenants", "1 / 1,000", "2.0 / 30.0", "15.0", "4.5 / 41"]]


@pytest.mark.parametrize(("seconds_max", "operations_max", "expected"), [(0.0, 500, 1), (60.0, 30, 30)])
async def test_operations_are_counted_with_what_they_leave_behind(
    seconds_max: float, operations_max: int, expected: int
) -> None:
    numbers: list[int] = []

    async def operation(number: int) -> None:
        numbers.append(number)

    async def settle() -> float:
        return 2.0 * expected

    measured = await measure_for(
        operation, seconds_max=seconds_max, operations_max=operations_max, pids=[], settle=settle
    )
    assert numbers == list(range(expected))
    assert measured.operations == expected
    assert measured.cpu_us == pytest.approx(2_000_000.0)


@given(seed=st.integers(), size=st.integers(1, 4_096))
def test_texts_have_their_size_in_bytes_and_come_again_with_their_seed(seed: int, size: int) -> None:
    piece = Texts(seed).piece(size)
    assert len(piece.encode()) == size
    assert Texts(seed).piece(size) == piece
