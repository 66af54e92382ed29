"""What every session log promises about its room, and about sessions that leave it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.port import (
    AppendConflict,
    NoRoom,
    Notice,
    OldRecord,
    Record,
    SessionGone,
    SessionLog,
    reserve_bytes,
)
from tests.contract.conftest import SMALL_LOG_BYTES, MoreLogs
from tests.servers import eventually

RECORD_BYTES = 500


async def fill(log: SessionLog, key: SessionKey, revision: int = 0, *, name: str = "op") -> list[int]:
    """Append to one session until the log takes no more. Its revisions."""
    revisions = [revision]
    with pytest.raises(NoRoom):  # noqa: PT012 - the log is full at some time, not at a certain one
        while True:
            number = len(revisions)
            revisions.append(
                await log.append(
                    key,
                    expected_revision=revisions[-1],
                    operation_id=f"{name}{number}",
                    data=b"x" * RECORD_BYTES,
                )
            )
    return revisions[1:]


async def until_taken(append: Callable[[], Awaitable[int]]) -> int:
    """Append as soon as the log has noticed its room: within a second, whoever made the room."""
    revision = 0

    async def taken() -> bool:
        nonlocal revision
        try:
            revision = await append()
        except NoRoom:
            return False
        return True

    await eventually(taken, timeout_seconds=10)
    return revision


async def test_a_full_log_takes_what_makes_it_shorter(small_log: SessionLog, tenant: str) -> None:
    first, second = session_key(tenant, "first"), session_key(tenant, "second")
    early = await small_log.append(first, expected_revision=0, operation_id="early", data=b"x" * 3_000)
    revisions = await fill(small_log, second)
    assert len(revisions) > 10
    held_back = RECORD_BYTES * len(revisions) + 3_000
    assert held_back < SMALL_LOG_BYTES - reserve_bytes(SMALL_LOG_BYTES)
    with pytest.raises(NoRoom):
        await small_log.append(first, expected_revision=early, operation_id="more", data=b"x" * RECORD_BYTES)
    placed = await small_log.append(
        second, expected_revision=revisions[-1], operation_id="placed", data=b"x" * RECORD_BYTES, from_reserve=True
    )
    tombstone = await small_log.bury(first, expected_revision=early, operation_id="bury", data=b"t")
    rolled = await small_log.rollup(second, expected_revision=placed, operation_id="snapshot", data=b"s" * RECORD_BYTES)
    assert await small_log.read(first, strict=True) == [Record(tombstone, "bury", b"t", rollup=True)]
    assert [record.revision for record in await small_log.read(second, strict=True)] == [rolled]
    third = session_key(tenant, "third")
    again = await until_taken(
        lambda: small_log.append(third, expected_revision=0, operation_id="again", data=b"x" * RECORD_BYTES)
    )
    assert len(await fill(small_log, third, again)) > 10


async def test_a_full_log_knows_what_was_appended(small_log: SessionLog, key: SessionKey) -> None:
    revisions = await fill(small_log, key)
    for number, revision in enumerate(revisions, 1):
        data = b"x" * RECORD_BYTES
        before = ([0, *revisions])[number - 1]
        repeated = small_log.append(key, expected_revision=before, operation_id=f"op{number}", data=data)
        assert await repeated == revision
    with pytest.raises(AppendConflict) as conflict:
        await small_log.append(key, expected_revision=revisions[0], operation_id="late", data=b"x" * RECORD_BYTES)
    assert conflict.value.actual == revisions[-1]
    assert [record.revision for record in await small_log.read(key, strict=True)] == revisions


async def test_the_reserve_ends_as_well(small_log: SessionLog, key: SessionKey) -> None:
    revision = (await fill(small_log, key))[-1]
    taken = 0
    with pytest.raises(NoRoom):  # noqa: PT012
        while True:
            revision = await small_log.append(
                key,
                expected_revision=revision,
                operation_id=f"reserved{taken}",
                data=b"x" * RECORD_BYTES,
                from_reserve=True,
            )
            taken += 1
    assert 4 <= taken <= reserve_bytes(SMALL_LOG_BYTES) // RECORD_BYTES + 1


@pytest.mark.parametrize("writers", [2, 12])
async def test_writers_side_by_side_leave_the_reserve(more_small_logs: MoreLogs, tenant: str, writers: int) -> None:
    logs = [more_small_logs() for _ in range(writers)]
    keys = [session_key(tenant, f"w{number}") for number in range(writers)]
    appended = await asyncio.gather(*(fill(log, key) for log, key in zip(logs, keys, strict=True)))
    assert sum(map(len, appended)) > 10
    for log, key, revisions in zip(logs, keys, appended, strict=True):
        await log.bury(key, expected_revision=revisions[-1] if revisions else 0, operation_id="bury", data=b"t" * 100)
    for log, key in zip(logs, keys, strict=True):
        assert [record.data for record in await log.read(key, strict=True)] == [b"t" * 100]


async def test_a_tombstone_replaces_everything_and_goes_by_itself(log: SessionLog, tenant: str) -> None:
    key, other = session_key(tenant, "gone"), session_key(tenant, "stays")
    kept = await log.append(other, expected_revision=0, operation_id="kept", data=b"kept")
    revision = 0
    for number in range(3):
        revision = await log.append(key, expected_revision=revision, operation_id=f"op{number}", data=b"secret")
    with pytest.raises(AppendConflict):
        await log.bury(key, expected_revision=revision - 1, operation_id="early", data=b"t", stands_seconds=1)
    tombstone = await log.bury(key, expected_revision=revision, operation_id="bury", data=b"t", stands_seconds=2)
    bury_again = log.bury(key, expected_revision=revision, operation_id="bury", data=b"t", stands_seconds=2)
    assert await bury_again == tombstone
    assert await log.read(key, after_revision=revision, strict=True) == [Record(tombstone, "bury", b"t", rollup=True)]
    assert key.session in await log.sessions(key.tenant, after="", limit=10)

    async def is_gone() -> bool:
        return not await log.read(key, strict=True)

    await eventually(is_gone)
    assert await log.read(key) == []
    assert await log.sessions(key.tenant, after="", limit=10) == ["stays"]
    for known in (revision, tombstone):
        with pytest.raises(SessionGone):
            await log.read(key, after_revision=known, strict=True)
        with pytest.raises(AppendConflict) as conflict:
            await log.append(key, expected_revision=known, operation_id="late", data=b"")
        assert conflict.value.actual == 0
    assert [record.revision for record in await log.read(other, strict=True)] == [kept]
    anew = await log.append(key, expected_revision=0, operation_id="anew", data=b"n")
    assert anew > tombstone
    assert [record.data for record in await log.read(key, after_revision=revision, strict=True)] == [b"n"]


async def test_a_feed_tells_of_a_tombstone(log: SessionLog, key: SessionKey) -> None:
    revision = await log.append(key, expected_revision=0, operation_id="op", data=b"", touches=("p1",))
    async with log.follow() as feed:
        feed.watch(key)
        buried = await log.bury(key, expected_revision=revision, operation_id="bury", data=b"")
        assert await anext(feed) == Notice(key, revision, buried, None)


async def test_a_partition_tells_how_full_it_is_and_what_is_oldest(small_log: SessionLog, tenant: str) -> None:
    assert small_log.partitions == 1
    assert await small_log.fill(0) == 0
    assert await small_log.oldest(0, after_revision=0, limit=10) == []
    first, second = session_key(tenant, "first"), session_key(tenant, "second")
    early = await small_log.append(first, expected_revision=0, operation_id="a", data=b"x" * 1_000)
    late = await small_log.append(second, expected_revision=0, operation_id="b", data=b"x" * 2_000)
    kept = [
        OldRecord(first, early, 1_000, rollup=False),
        OldRecord(second, late, 2_000, rollup=False),
    ]
    assert await small_log.oldest(0, after_revision=0, limit=10) == kept
    assert await small_log.oldest(0, after_revision=0, limit=1) == kept[:1]
    assert await small_log.oldest(0, after_revision=early, limit=10) == kept[1:]
    assert 3_000 / 15_000 <= await small_log.fill(0) < 4_000 / 15_000
    rolled = await small_log.rollup(first, expected_revision=early, operation_id="s", data=b"x" * 100)
    assert await small_log.oldest(0, after_revision=0, limit=10) == [
        kept[1],
        OldRecord(first, rolled, 100, rollup=True),
    ]
    await fill(small_log, second, late)
    assert 0.9 < await small_log.fill(0) <= 1
