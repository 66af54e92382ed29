"""Random histories of a MemoryManager: steps that are drawn, and the manager that takes them."""

from typing import Any, Final

from hypothesis import strategies as st

from pagekeeper.memory import CompressionLevel, InMemoryBackend, MemoryManager, StorageTier, WorkingSetConfig

SENTENCES: Final = (
    "We decided to sign access tokens with EdDSA in March 2026.",
    "Thanks a lot, that is great!",
    "The gateway listens on port 8080 and the proxy in front of it on 443.",
)
SMALL: Final = WorkingSetConfig(max_l0_tokens=720, reserved_tokens=360)
Step = tuple[Any, ...]

TIERS = st.sampled_from([StorageTier.L1, StorageTier.L2, StorageTier.L3, StorageTier.L4])
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 12)),
    st.tuples(st.just("fault"), st.integers(0, 30), st.sampled_from(CompressionLevel)),
    st.tuples(st.just("evict"), st.integers(0, 30), TIERS),
    st.tuples(st.just("compress"), st.integers(0, 30), st.sampled_from(CompressionLevel)),
    st.tuples(st.just("pin"), st.integers(0, 30)),
    st.tuples(st.just("unpin"), st.integers(0, 30)),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("segment"), TIERS),
    st.tuples(st.just("bridge")),
    st.tuples(st.just("recall"), st.sampled_from(SENTENCES)),
)


class History:
    """A manager, and what was given to it."""

    def __init__(self, memory: MemoryManager) -> None:
        self.memory = memory
        self.said: dict[str, str] = {}

    async def step(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - drawn
        if name == "add":
            [sentences] = arguments
            text = f"{len(self.said)}: " + " ".join(SENTENCES[n % len(SENTENCES)] for n in range(sentences))
            page = await self.memory.add_user_message(text)
            self.said[page.page_id] = text
        elif name == "turn":
            self.memory.new_turn()
        elif name == "segment":
            await self.memory.evict_segment_pages(*arguments)
        elif name == "bridge":
            await self.memory.configure_bridge(InMemoryBackend())
        elif name == "recall":
            await self.memory.demand_pre_pass(*arguments)
        elif self.said:
            await self.with_page(name, list(self.said)[arguments[0] % len(self.said)], *arguments[1:])

    async def with_page(self, name: str, page_id: str, *arguments: Any) -> None:  # noqa: ANN401 - drawn
        memory = self.memory
        match name:
            case "fault":
                await memory.handle_fault(page_id, *arguments)
            case "evict":
                await memory.evict_page(page_id, *arguments)
            case "compress":
                await memory.compress_page(page_id, *arguments)
            case "pin":
                memory.pin_page(page_id)
            case "unpin":
                memory.unpin_page(page_id)
            case _:
                page = await memory.get_page(page_id)
                assert page is not None
                await memory.add_to_working_set(page)

    async def check(self) -> None:
        memory = self.memory
        resident = memory.get_l0_pages()
        assert [page.page_id for page in resident] == memory.working_set.get_l0_page_ids()
        assert memory.working_set.tokens_used == sum(page.estimate_tokens() for page in resident)
        assert memory.working_set.tokens_used <= 360
        assert {page.page_id for page in resident} == {
            entry.page_id for entry in memory.page_table.get_by_tier(StorageTier.L0)
        }
        for page in resident:
            entry = memory.page_table.lookup(page.page_id)
            assert entry is not None
            assert (entry.compression_level, entry.size_tokens) == (page.compression_level, page.size_tokens)
        for page_id, text in self.said.items():
            found = await memory.get_page(page_id)
            assert found is not None
            assert found.full.content == text
