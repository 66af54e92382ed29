"""What the feed of every session log promises."""

import asyncio

import pytest

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.port import Feed, Notice, Record, SessionGone, SessionLog

WAIT_SECONDS = 10.0


async def next_of(feed: Feed, count: int) -> list[Notice]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [await anext(feed) for _ in range(count)]


async def test_each_append_is_noticed_once_with_what_it_touches(log: SessionLog, key: SessionKey) -> None:
    too_many = tuple(f"page-{number}" for number in range(2000))
    async with log.follow() as feed:
        feed.watch(key)
        feed.watch(key)
        first = await log.append(key, expected_revision=0, operation_id="a", data=b"1", touches=("p1", "p2"))
        second = await log.append(key, expected_revision=first, operation_id="b", data=b"2")
        third = await log.append(key, expected_revision=second, operation_id="c", data=b"3", touches=None)
        fourth = await log.append(key, expected_revision=third, operation_id="d", data=b"4", touches=too_many)
        rolled = await log.rollup(key, expected_revision=fourth, operation_id="s", data=b"s")
        buried = await log.bury(key, expected_revision=rolled, operation_id="t", data=b"t")
        assert await next_of(feed, 6) == [
            Notice(key, 0, first, ("p1", "p2")),
            Notice(key, first, second, ()),
            Notice(key, second, third, None),
            Notice(key, third, fourth, None),
            Notice(key, fourth, rolled, ()),
            Notice(key, rolled, buried, None),
        ]


async def test_what_was_refused_or_repeated_is_not_noticed(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        feed.watch(key)
        outcomes = await asyncio.gather(
            *(log.append(key, expected_revision=0, operation_id=f"w{n}", data=b"") for n in range(8)),
            return_exceptions=True,
        )
        (revision,) = (outcome for outcome in outcomes if isinstance(outcome, int))
        winner = outcomes.index(revision)
        await log.append(key, expected_revision=0, operation_id=f"w{winner}", data=b"")
        last = await log.append(key, expected_revision=revision, operation_id="last", data=b"")
        assert await next_of(feed, 2) == [Notice(key, 0, revision, ()), Notice(key, revision, last, ())]


async def test_a_follower_hears_of_the_sessions_that_it_watches_and_of_no_others(log: SessionLog, tenant: str) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(12)]
    async with log.follow() as one, log.follow() as other:
        for key in keys[:8]:
            one.watch(key)
        for key in keys[4:]:
            other.watch(key)
        one.unwatch(keys[0])
        one.unwatch(keys[11])
        await one.settle()
        await other.settle()
        revisions = {key: await log.append(key, expected_revision=0, operation_id="a", data=b"") for key in keys}
        for feed, watched in ((one, keys[1:8]), (other, keys[4:])):
            heard = {notice.key: notice.revision for notice in await next_of(feed, len(watched))}
            assert heard == {key: revisions[key] for key in watched}
        # Nothing else is on its way: the next that comes is the next that is appended.
        last = await log.append(keys[5], expected_revision=revisions[keys[5]], operation_id="b", data=b"")
        for feed in (one, other):
            assert await next_of(feed, 1) == [Notice(keys[5], revisions[keys[5]], last, ())]


async def test_what_a_strict_read_does_not_return_is_noticed(log: SessionLog, key: SessionKey) -> None:
    """A writer writes without pause; a follower begins to watch and reads, again and again: nothing falls between."""
    stop = asyncio.Event()
    revisions = [0]

    async def write() -> None:
        while not stop.is_set():
            operation_id = f"op{len(revisions)}"
            revisions.append(
                await log.append(key, expected_revision=revisions[-1], operation_id=operation_id, data=b"")
            )

    writer = asyncio.ensure_future(write())
    for _ in range(10):
        async with log.follow() as feed:
            feed.watch(key)
            read: list[Record] = await log.read(key, strict=True)
            known = read[-1].revision if read else 0
            heard = await next_of(feed, 3)
            assert min(notice.previous_revision for notice in heard) <= known
            assert [notice.previous_revision for notice in heard[1:]] == [notice.revision for notice in heard[:-1]]
    stop.set()
    await writer


async def test_a_cancelled_wait_loses_no_notice(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        feed.watch(key)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(next_of(feed, 1), timeout=0.05)
        revision = await log.append(key, expected_revision=0, operation_id="a", data=b"")
        assert await next_of(feed, 1) == [Notice(key, 0, revision, ())]


async def test_a_reader_of_another_log_is_told_so(log: SessionLog, key: SessionKey) -> None:
    """Whoever knows a revision that the log has not reached has folded something else."""
    revision = await log.append(key, expected_revision=0, operation_id="a", data=b"")
    assert await log.read(key, after_revision=revision, strict=True) == []
    for known in (revision + 1, revision + 1_000_000):
        with pytest.raises(SessionGone):
            await log.read(key, after_revision=known, strict=True)
