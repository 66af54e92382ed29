"""What every session log promises."""

import asyncio
from collections import Counter

import pytest

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, TenantId, session_key
from pagekeeper.runtime.log.port import (
    RECORD_BYTES_MAX,
    AppendConflict,
    NoRoom,
    Record,
    RecordTooLarge,
    SessionLog,
)


async def append_all(
    log: SessionLog, key: SessionKey, count: int, *, data: bytes = b"data", start: int = 0
) -> list[int]:
    """Append `count` records, op0 and so on, to a session whose last revision is `start`."""
    revisions = [start]
    for number in range(count):
        revision = await log.append(key, expected_revision=revisions[-1], operation_id=f"op{number}", data=data)
        revisions.append(revision)
    return revisions[1:]


async def test_what_was_appended_is_read_in_order(log: SessionLog, key: SessionKey) -> None:
    revisions = await append_all(log, key, 3)
    assert 0 < revisions[0] < revisions[1] < revisions[2]
    expected = [Record(revision, f"op{n}", b"data", rollup=False) for n, revision in enumerate(revisions)]
    for strict in (False, True):
        assert await log.read(key, strict=strict) == expected
        assert await log.read(key, after_revision=revisions[0], strict=strict) == expected[1:]
        assert await log.read(key, after_revision=revisions[2], strict=strict) == []


async def test_a_session_without_records_reads_as_nothing(log: SessionLog, key: SessionKey) -> None:
    for strict in (False, True):
        assert await log.read(key, strict=strict) == []


async def test_any_bytes_come_back_as_they_were(log: SessionLog, key: SessionKey) -> None:
    first = await log.append(key, expected_revision=0, operation_id="empty", data=b"")
    data = bytes(range(256)) * 4 + b"\r\n-ERR\r\nNATS/1.0 404\r\n\r\n"
    await log.append(key, expected_revision=first, operation_id='!"#~', data=data)
    records = await log.read(key, strict=True)
    assert [(record.operation_id, record.data) for record in records] == [("empty", b""), ('!"#~', data)]


async def test_one_of_sixteen_writers_wins_each_round(log: SessionLog, key: SessionKey) -> None:
    revision = 0
    for round_number in range(12):
        outcomes = await asyncio.gather(
            *(
                log.append(key, expected_revision=revision, operation_id=f"r{round_number}w{writer}", data=b"")
                for writer in range(16)
            ),
            return_exceptions=True,
        )
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, AppendConflict)]
        assert (len(won), len(lost)) == (1, 15)
        assert {(conflict.actual, conflict.maybe_applied) for conflict in lost} == {(won[0], False)}
        revision = won[0]
    assert len(await log.read(key, strict=True)) == 12


async def test_a_writer_that_expects_another_revision_is_told_the_actual_one(log: SessionLog, key: SessionKey) -> None:
    with pytest.raises(AppendConflict) as of_nothing:
        await log.append(key, expected_revision=7, operation_id="a", data=b"")
    assert (of_nothing.value.expected, of_nothing.value.actual) == (7, 0)
    revisions = await append_all(log, key, 2)
    for wrong in (0, revisions[0], revisions[1] + 1):
        with pytest.raises(AppendConflict) as conflict:
            await log.append(key, expected_revision=wrong, operation_id="b", data=b"")
        assert conflict.value.actual == revisions[1]
        assert not conflict.value.maybe_applied
    assert len(await log.read(key, strict=True)) == 2


async def test_sessions_do_not_see_each_other(log: SessionLog, tenant: str) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(20)]
    revisions = [await append_all(log, key, 2) for key in keys]
    for key, own in zip(keys, revisions, strict=True):
        assert [record.revision for record in await log.read(key, strict=True)] == own


async def test_repeating_an_append_gives_its_revision(log: SessionLog, key: SessionKey) -> None:
    revision = await log.append(key, expected_revision=0, operation_id="once", data=b"1")
    assert await log.append(key, expected_revision=0, operation_id="once", data=b"1") == revision
    await append_all(log, key, 3, start=revision)
    # Others have appended since: it is found in the tail.
    assert await log.append(key, expected_revision=0, operation_id="once", data=b"1") == revision
    assert len(await log.read(key, strict=True)) == 4


async def test_repeating_an_append_that_was_rolled_up_is_for_the_fold_to_decide(
    log: SessionLog, key: SessionKey
) -> None:
    revision = await log.append(key, expected_revision=0, operation_id="once", data=b"1")
    rolled = await log.rollup(key, expected_revision=revision, operation_id="snapshot", data=b"s")
    with pytest.raises(AppendConflict) as conflict:
        await log.append(key, expected_revision=0, operation_id="once", data=b"1")
    assert conflict.value.actual == rolled
    assert conflict.value.maybe_applied
    # Nothing lies between this revision and the rollup, so nothing can hide in it.
    with pytest.raises(AppendConflict) as definite:
        await log.append(key, expected_revision=revision, operation_id="new", data=b"2")
    assert not definite.value.maybe_applied


async def test_a_rollup_replaces_what_came_before(log: SessionLog, key: SessionKey) -> None:
    before = await append_all(log, key, 5)
    rolled = await log.rollup(key, expected_revision=before[-1], operation_id="snapshot", data=b"folded")
    after = await append_all(log, key, 2, start=rolled)
    snapshot = Record(rolled, "snapshot", b"folded", rollup=True)
    for strict in (False, True):
        records = await log.read(key, strict=strict)
        assert records[0] == snapshot
        assert [record.revision for record in records] == [rolled, *after]
        # A reader in the middle of what is gone is given the snapshot too.
        assert await log.read(key, after_revision=before[1], strict=strict) == records
        assert await log.read(key, after_revision=rolled, strict=strict) == records[1:]


async def test_a_rollup_is_compared_like_an_append(log: SessionLog, key: SessionKey) -> None:
    revisions = await append_all(log, key, 3)
    with pytest.raises(AppendConflict) as conflict:
        await log.rollup(key, expected_revision=revisions[1], operation_id="snapshot", data=b"")
    assert conflict.value.actual == revisions[2]
    assert len(await log.read(key, strict=True)) == 3
    rolled = await log.rollup(key, expected_revision=revisions[2], operation_id="snapshot", data=b"s")
    assert await log.rollup(key, expected_revision=revisions[2], operation_id="snapshot", data=b"s") == rolled
    assert [record.revision for record in await log.read(key, strict=True)] == [rolled]


async def test_a_rollup_may_be_the_first_record(log: SessionLog, key: SessionKey) -> None:
    rolled = await log.rollup(key, expected_revision=0, operation_id="snapshot", data=b"s")
    assert await log.read(key, strict=True) == [Record(rolled, "snapshot", b"s", rollup=True)]


async def test_many_records_and_large_ones_are_read_whole(log: SessionLog, tenant: str) -> None:
    many, large = session_key(tenant, "many"), session_key(tenant, "large")
    revisions = await append_all(log, many, 1100, data=b"x")
    assert [record.revision for record in await log.read(many, strict=True)] == revisions
    await append_all(log, large, 9, data=b"x" * RECORD_BYTES_MAX)
    records = await log.read(large)
    assert [(record.operation_id, len(record.data)) for record in records] == [
        (f"op{number}", RECORD_BYTES_MAX) for number in range(9)
    ]


async def test_a_record_that_cannot_fit_is_refused_before_anything_happens(log: SessionLog, key: SessionKey) -> None:
    too_large = b"x" * (RECORD_BYTES_MAX + 1)
    with pytest.raises(RecordTooLarge) as refusal:
        await log.append(key, expected_revision=0, operation_id="a", data=too_large)
    assert (refusal.value.size_bytes, refusal.value.limit_bytes) == (RECORD_BYTES_MAX + 1, RECORD_BYTES_MAX)
    with pytest.raises(RecordTooLarge):
        await log.rollup(key, expected_revision=0, operation_id="a", data=too_large)
    assert await log.read(key, strict=True) == []
    pages = tuple(f"{number:064}" for number in range(1000))
    longest = "o" * 200
    await log.append(key, expected_revision=0, operation_id=longest, data=b"x" * RECORD_BYTES_MAX, touches=pages)


@pytest.mark.parametrize("operation_id", ["", "a b", "a\r\nNats-Rollup: all", "ä", "o" * 201])
async def test_an_operation_id_is_one_word(log: SessionLog, key: SessionKey, operation_id: str) -> None:
    with pytest.raises(InvalidField):
        await log.append(key, expected_revision=0, operation_id=operation_id, data=b"")


@pytest.mark.parametrize("wrong", ["*", ">", "a.>", "", "a b", "a=2E", "x" * 65, "a\n"])
async def test_no_id_reaches_beyond_its_own_session(log: SessionLog, key: SessionKey, wrong: str) -> None:
    await append_all(log, key, 1)
    for address in (SessionKey(key.tenant, SessionId(wrong)), SessionKey(TenantId(wrong), key.session)):
        with pytest.raises(InvalidField):
            await log.append(address, expected_revision=0, operation_id="a", data=b"")
        with pytest.raises(InvalidField):
            await log.rollup(address, expected_revision=0, operation_id="a", data=b"")
        with pytest.raises(InvalidField):
            await log.read(address)
    with pytest.raises(InvalidField):
        await log.sessions(TenantId(wrong), after="", limit=1)


async def test_sessions_are_listed_by_tenant_in_order_and_in_pages(log: SessionLog, tenant: str) -> None:
    names = sorted(f"s{number}" for number in range(23))
    for name in reversed(names):
        await append_all(log, session_key(tenant, name), 2)
    await append_all(log, session_key(f"{tenant}x", "foreign"), 1)
    owner = TenantId(tenant)
    assert await log.sessions(owner, after="", limit=1000) == names
    listed: list[SessionId] = []
    while page := await log.sessions(owner, after=listed[-1] if listed else "", limit=5):
        assert len(page) <= 5
        listed += page
    assert listed == names
    assert await log.sessions(TenantId(f"{tenant}-without"), after="", limit=10) == []
    for limit in (0, 1001):
        with pytest.raises(InvalidField):
            await log.sessions(owner, after="", limit=limit)


async def test_a_full_log_refuses_and_keeps_what_it_has(small_log: SessionLog, tenant: str) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(3)]
    last = dict.fromkeys(keys, 0)
    appended: Counter[SessionKey] = Counter()
    with pytest.raises(NoRoom):  # noqa: PT012 - it is full at some time, not at a certain one
        for number in range(1000):
            key = keys[number % 3]
            last[key] = await small_log.append(
                key, expected_revision=last[key], operation_id=f"op{number}", data=b"x" * 500
            )
            appended[key] += 1
    assert sum(appended.values()) > 10
    for key in keys:
        records = await small_log.read(key, strict=True)
        assert len(records) == appended[key]
        assert records[-1].revision == last[key]
