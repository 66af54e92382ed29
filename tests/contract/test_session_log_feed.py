"""What the feed of every session log promises."""

import asyncio

import pytest

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.port import Feed, FeedRewound, FeedToken, Notice, SessionLog

WAIT_SECONDS = 10.0


async def next_of(feed: Feed, tenant: str, count: int) -> list[Notice]:
    """The next notices about a tenant: a log has others too."""
    notices: list[Notice] = []
    async with asyncio.timeout(WAIT_SECONDS):
        async for notice in feed:
            if notice.key.tenant == tenant:
                notices.append(notice)
            if len(notices) == count:
                break
    return notices


async def test_each_append_is_noticed_once_with_what_it_touches(log: SessionLog, key: SessionKey) -> None:
    too_many = tuple(f"page-{number}" for number in range(2000))
    async with log.follow() as feed:
        first = await log.append(key, expected_revision=0, operation_id="a", data=b"1", touches=("p1", "p2"))
        second = await log.append(key, expected_revision=first, operation_id="b", data=b"2")
        third = await log.append(key, expected_revision=second, operation_id="c", data=b"3", touches=None)
        fourth = await log.append(key, expected_revision=third, operation_id="d", data=b"4", touches=too_many)
        rolled = await log.rollup(key, expected_revision=fourth, operation_id="s", data=b"s")
        assert await next_of(feed, key.tenant, 5) == [
            Notice(key, 0, first, ("p1", "p2")),
            Notice(key, first, second, ()),
            Notice(key, second, third, None),
            Notice(key, third, fourth, None),
            Notice(key, fourth, rolled, ()),
        ]


async def test_what_was_refused_or_repeated_is_not_noticed(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        outcomes = await asyncio.gather(
            *(log.append(key, expected_revision=0, operation_id=f"w{n}", data=b"") for n in range(8)),
            return_exceptions=True,
        )
        (revision,) = (outcome for outcome in outcomes if isinstance(outcome, int))
        winner = outcomes.index(revision)
        await log.append(key, expected_revision=0, operation_id=f"w{winner}", data=b"")
        last = await log.append(key, expected_revision=revision, operation_id="last", data=b"")
        assert await next_of(feed, key.tenant, 2) == [Notice(key, 0, revision, ()), Notice(key, revision, last, ())]


async def test_every_follower_hears_of_every_session(log: SessionLog, tenant: str) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(12)]
    async with log.follow() as one, log.follow() as other:
        revisions = {
            key: await log.append(key, expected_revision=0, operation_id="a", data=b"", touches=("p",)) for key in keys
        }
        for feed in (one, other):
            assert {notice.key: notice.revision for notice in await next_of(feed, tenant, 12)} == revisions


async def test_a_feed_goes_on_where_its_token_says(log: SessionLog, tenant: str) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(6)]
    last = dict.fromkeys(keys, 0)

    async def append_to_all() -> None:
        for key in keys:
            last[key] = await log.append(
                key, expected_revision=last[key], operation_id=f"after{last[key]}", data=b"", touches=("p",)
            )

    async with log.follow() as feed:
        await append_to_all()
        heard = await next_of(feed, tenant, 4)
        token = feed.token
    await append_to_all()
    async with log.follow(token) as feed:
        await append_to_all()
        heard += await next_of(feed, tenant, 14)
    for key in keys:
        of_key = [notice for notice in heard if notice.key == key]
        assert [notice.previous_revision for notice in of_key] == [0] + [notice.revision for notice in of_key[:-1]]
        assert of_key[-1].revision == last[key]
        assert {notice.touches for notice in of_key} == {("p",)}


async def test_what_was_rolled_up_meanwhile_counts_as_anything(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        first = await log.append(key, expected_revision=0, operation_id="a", data=b"", touches=("p1",))
        await next_of(feed, key.tenant, 1)
        token = feed.token
    second = await log.append(key, expected_revision=first, operation_id="b", data=b"", touches=("p2",))
    rolled = await log.rollup(key, expected_revision=second, operation_id="s", data=b"")
    third = await log.append(key, expected_revision=rolled, operation_id="c", data=b"", touches=("p3",))
    async with log.follow(token) as feed:
        assert await next_of(feed, key.tenant, 2) == [
            Notice(key, second, rolled, None),
            Notice(key, rolled, third, ("p3",)),
        ]


async def test_a_feed_that_missed_much_hears_of_all_of_it(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        token = feed.token
    revision = 0
    for number in range(700):
        revision = await log.append(key, expected_revision=revision, operation_id=f"op{number}", data=b"x" * 100)
    async with log.follow(token) as feed:
        notices = await next_of(feed, key.tenant, 700)
    assert [notice.previous_revision for notice in notices[1:]] == [notice.revision for notice in notices[:-1]]
    assert notices[-1].revision == revision


async def test_a_cancelled_wait_loses_no_notice(log: SessionLog, key: SessionKey) -> None:
    async with log.follow() as feed:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(next_of(feed, key.tenant, 1), timeout=0.05)
        revision = await log.append(key, expected_revision=0, operation_id="a", data=b"")
        assert await next_of(feed, key.tenant, 1) == [Notice(key, 0, revision, ())]


async def test_a_token_of_another_log_is_refused(log: SessionLog) -> None:
    async with log.follow() as feed:
        positions = feed.token.positions
    ahead = FeedToken(tuple(position + 1_000_000 for position in positions))
    with pytest.raises(FeedRewound):
        await log.follow(ahead).__aenter__()
    with pytest.raises(ValueError, match="partitions"):
        log.follow(FeedToken((*positions, 0)))
