"""A session that grows is written back and snapshotted by itself, and nobody who uses it can tell."""

import pytest

from pagekeeper.client import Pagekeeper, Session, assistant, user
from pagekeeper.v1 import page_pb2
from tests.servers import eventually

pytestmark = pytest.mark.xdist_group("stacks")

PAGES = 120
TEXTS = {f"p{number}": f"Page {number} is about harbour number {number}. " * 40 for number in range(PAGES)}


@pytest.fixture
async def grown(alice: Pagekeeper) -> Session:
    """Of 230 KiB in turns of four pages, with a checkpoint in the middle."""
    session = await alice.open_session(max_l0_tokens=6_000)
    page_ids = list(TEXTS)
    for start in range(0, PAGES, 4):
        first, *rest = page_ids[start : start + 4]
        answers = [assistant(TEXTS[page_id], page_id=page_id) for page_id in rest]
        await session.append(user(TEXTS[first], page_id=first), *answers)
        if start == PAGES // 2:
            await session.checkpoint("the middle", checkpoint_id="middle")
    return session


async def tiers(session: Session) -> dict[str, page_pb2.Placement]:
    return {page.page_id: page.representations[0].placement async for page in session.pages()}


async def test_pages_leave_the_log_and_stay_what_they_were(grown: Session) -> None:
    before = await grown.replay()
    prompt = await grown.assemble()

    async def many_are_placed() -> bool:
        placements = (await tiers(grown)).values()
        return sum(placement.HasField("extent") for placement in placements) > PAGES // 4

    await eventually(many_are_placed, timeout_seconds=60)

    async def all_are_placed() -> bool:
        """Lower levels are still made in the background, and are dirty until they are placed too."""
        await grown.flush()
        return (await grown.stats()).dirty_pages == 0

    await eventually(all_are_placed, timeout_seconds=60)
    for page_id in ("p0", "p7", f"p{PAGES - 1}"):
        assert await grown.read(page_id) == TEXTS[page_id].encode()
    assert (await grown.search("harbour number 17"))[0].page_id == "p17"
    assert (await grown.assemble()).digest == prompt.digest
    after = await grown.replay()
    assert after.matches_served_state
    assert (after.decisions, after.decisions_digest) == (before.decisions, before.decisions_digest)


async def test_the_past_is_read_across_snapshots(grown: Session) -> None:
    middle = (await anext(grown.checkpoints())).revision
    history = [entry.WhichOneof("event") async for entry in grown.page_history("p0")]
    assert history[:2] == ["mapped", "admitted"]
    fork = await grown.fork(at_revision=middle)
    pages = [page.page_id async for page in fork.pages()]
    assert pages == list(TEXTS)[: PAGES // 2 + 4]
    await fork.append(user("only here", page_id="own"))
    for page_id in ("p0", "p60"):
        assert await fork.read(page_id) == TEXTS[page_id].encode()
    assert "own" not in await tiers(grown)
    await grown.restore("middle")
    assert [page.page_id async for page in grown.pages()] == pages
    assert (await grown.replay()).matches_served_state
    assert (await fork.replay()).matches_served_state
