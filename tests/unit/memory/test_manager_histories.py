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


@given(st.lists(st.sampled_from(["", "", "", *(f"p{ordinal}" for ordinal in range(1, 9)), "user:1"]), max_size=12))
def test_an_id_that_is_made_is_never_one_that_is_taken(names: list[str]) -> None:
    """Whatever ids the application chose before, `p17` too: what is said without an id is never refused for its id."""

    async def live() -> None:
        memory = MemoryManager(config=SMALL)
        said: dict[str, str] = {}
        for number, name in enumerate(names):
            text = f"word {number}"
            if name in said:
                continue  # it would be another version of that page
            page = memory.create_page(text, page_id=name) if name else await memory.add_user_message(text)
            assert page.page_id == name or (not name and page.page_id not in said)
            said[page.page_id] = text
        assert {page_id: memory.session.pages[page_id].current.full.size_bytes for page_id in said} == {
            page_id: len(text) for page_id, text in said.items()
        }
        assert list(memory.session.pages) == list(said)

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
