"""Laws over random histories of a MemoryManager: no word is lost, no token counted twice, and who is pinned stays."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import CompressorRegistry, MemoryManager, Modality, TextCompressor
from tests.unit.memory.histories import SMALL, STEPS, History, Step


@given(st.lists(STEPS, max_size=25), st.booleans())
def test_no_history_loses_a_word_or_a_token(steps: list[Step], compressing: bool) -> None:  # noqa: FBT001 - drawn
    """Used tokens are those of the residents, the table knows where everybody is, and every page is still whole."""
    registry = CompressorRegistry.default() if compressing else None

    async def live() -> None:
        history = History(MemoryManager(config=SMALL, compressor_registry=registry))
        for step in steps:
            await history.step(*step)
            await history.check()

    asyncio.run(live())


@given(st.lists(STEPS, max_size=25))
def test_who_is_pinned_by_name_stays(steps: list[Step]) -> None:
    async def live() -> None:
        history = History(MemoryManager(config=SMALL))
        await history.step("add", 1)
        [page_id] = history.said
        history.memory.pin_page(page_id)
        for step in steps:
            if step[0] != "unpin":
                await history.step(*step)
            assert history.memory.working_set.is_in_l0(page_id)

    asyncio.run(live())


@given(st.lists(STEPS, max_size=25))
def test_nothing_is_lost_when_everything_happens_at_once(steps: list[Step]) -> None:
    """A summariser takes its time, and meanwhile pages move."""

    async def shorter(text: str, _tokens_max: int) -> str:
        await asyncio.sleep(0)
        return text[: len(text) // 2]

    async def live() -> None:
        registry = CompressorRegistry({Modality.TEXT: TextCompressor(summarize_fn=shorter)})
        history = History(MemoryManager(config=SMALL, compressor_registry=registry))
        await asyncio.gather(*(history.step(*step) for step in steps))
        await history.check()

    asyncio.run(live())
