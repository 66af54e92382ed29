"""What a prompt of Python prints of an object is short, whatever the object holds, and says what it is."""

import asyncio
import re
from typing import Final

import pytest
from hypothesis import given

from pagekeeper.memory import (
    AntiThrashPolicy,
    ArtifactsBridge,
    AvailablePageEntry,
    CompressionLevel,
    CompressionResult,
    CompressorRegistry,
    ContextPackCache,
    ContextPacker,
    ContextPackerConfig,
    FaultPolicy,
    FaultReason,
    FaultResult,
    InfiniteConversationManager,
    InMemoryBackend,
    ManifestBuilder,
    MemoryABI,
    MemoryManager,
    MemoryPage,
    Modality,
    MutationLogLite,
    PackedContext,
    PageData,
    PageSearchHandler,
    PageTable,
    PageTableEntry,
    PageTLB,
    PinnedSet,
    SearchResult,
    SearchResultEntry,
    SessionManager,
    StorageTier,
    StructuredContent,
    TextCompressor,
    TextContent,
    TLBWithPageTable,
    TokenBudget,
    UserExperienceMetrics,
    VMContext,
    VMManifest,
    VMToolResult,
    WorkingSetConfig,
    WorkingSetManager,
    get_vm_tools,
)
from tests.unit.memory.pages import pages

CHARS_MAX: Final = 300
PAGES: Final = 10_000
LARGE: Final = MemoryPage(page_id="p1", content="A megabyte. " * 90_000, size_tokens=270_000, provenance=["p"] * PAGES)
DATA: Final = MemoryPage(page_id="d1", modality=Modality.STRUCTURED, content={"rows": [{"a": 1}] * PAGES})
IDS: Final = [f"page_{number}" for number in range(PAGES)]
ENTRY: Final = AvailablePageEntry(page_id="p1", modality=Modality.TEXT, tier=StorageTier.L2, hint="words " * 9_999)
FOUND: Final = SearchResultEntry(page_id="p1", modality=Modality.TEXT, tier=StorageTier.L2, hint="words " * 9_999)
SHOWN: Final = PageData(
    page_id="p1",
    modality=Modality.TEXT,
    level=CompressionLevel.REDUCED,
    tier=StorageTier.L2,
    content=TextContent(text=str(LARGE.content)),
)

METRICS: Final = UserExperienceMetrics()
METRICS.record_fault(FaultReason.SPECULATIVE, "p1", 1)


def table() -> PageTable:
    full = PageTable()
    for page_id in IDS:
        full.register(MemoryPage(page_id=page_id, size_tokens=3))
    return full


def searching() -> PageSearchHandler:
    return PageSearchHandler([ENTRY.model_copy(update={"page_id": page_id}) for page_id in IDS])


def pinning() -> PinnedSet:
    full = PinnedSet()
    for page_id in IDS:
        full.pin(page_id)
        full.auto_pin(f"auto_{page_id}")
    return full


def storing() -> ArtifactsBridge:
    bridge = ArtifactsBridge(InMemoryBackend(), session_id="s" * 1_000)
    asyncio.run(bridge.store_page(LARGE))
    return bridge


def backend() -> InMemoryBackend:
    full = InMemoryBackend()
    for page_id in IDS:
        asyncio.run(full.store(page_id, b"x" * 100, {}))
    return full


TOLD: Final[list[tuple[object, str]]] = [
    (LARGE, r"page_id='p1'.*level='?FULL.*tokens=270000.*\(1,080,000 characters\)"),
    (DATA, r"page_id='d1'.*content=dict of 1"),
    (MemoryPage(page_id="b" * 10_000, content=b"x" * 5_000), r"\(10,000 characters\).*5,000 bytes"),
    (PageTableEntry.of_page(LARGE), r"page_id='p1', tier=L1, .*size_tokens=270000"),
    (
        CompressionResult(
            page=LARGE,
            original_tokens=9,
            compressed_tokens=3,
            level_before=CompressionLevel(0),
            level_after=CompressionLevel(1),
        ),
        r"page=MemoryPage\(page_id='p1'.*level_after=REDUCED",
    ),
    (PackedContext(content="U (p1): ok\n" * PAGES, tokens_est=7, pages_included=IDS), r"tokens_est=7.*list of 10,000"),
    (FaultResult(success=True, page=LARGE), r"success=True, page=MemoryPage\(page_id='p1'"),
    (VMToolResult(page=SHOWN), r"page=PageData\(page_id='p1'"),
    (SHOWN, r"page_id='p1'.*level=REDUCED"),
    (StructuredContent(data={"rows": IDS}), r"data=dict of 1"),
    (SearchResult(results=[FOUND] * PAGES, total_available=PAGES), r"list of 10,000.*total_available=10000"),
    (VMManifest(session_id="s1", available_pages=[ENTRY] * PAGES), r"session_id='s1'.*list of 10,000"),
    (ManifestBuilder(session_id="s1", available_pages=[ENTRY] * PAGES), r"session_id='s1'.*list of 10,000"),
    (MemoryABI(reserved_tokens=7), r"reserved_tokens=7"),
    (UserExperienceMetrics(faults=METRICS.faults * PAGES), r"faults=list of 10,000"),
    (FaultPolicy(pages_faulted_this_turn=IDS), r"list of 10,000"),
    (VMContext(developer_message="m" * 10_000, tools=get_vm_tools()), r"\(10,000 characters\)"),
    (TokenBudget(), r"TokenBudget"),
    (searching(), r"10,000 pages"),
    (storing(), r"in-memory.*pages_stored=1"),
    (backend(), r"10,000 objects, 1,000,000 bytes"),
    (table(), r"PageTable\(10,000 pages\)"),
    (TLBWithPageTable(table(), PageTLB(7)), r"PageTable\(10,000 pages\), PageTLB\(0 of 7 entries\)"),
    (WorkingSetManager(WorkingSetConfig(max_l0_tokens=9_000)), r"0 pages in L0, 0 of 5,000 tokens"),
    (MemoryManager("s" * 1_000), r"\(1,000 characters\), 0 pages, 0 in the prompt"),
    (SessionManager("s1", enable_vm=True), r"session_id='s1', MemoryManager\(session_id='s1'"),
    (SessionManager("s" * 1_000), r"\(1,000 characters\), Transcript"),
    (InfiniteConversationManager(), r"0 ids of segments"),
    (MutationLogLite(), r"0 mutations"),
    (ContextPackCache(5), r"0 of 5 packs"),
    (pinning(), r"10,000 pages, and 10 automatically"),
    (AntiThrashPolicy(), r"2 turns after a fault, 3 after an eviction, 0 pages"),
    (ContextPacker(ContextPackerConfig(max_tokens=5)), r"max_tokens=5"),
    (TextCompressor(), r"TextCompressor\(text\)"),
    (CompressorRegistry.default(), r"text, image, audio, video, structured"),
]


@pytest.mark.parametrize(("value", "said"), TOLD, ids=[type(value).__name__ for value, _ in TOLD])
def test_a_large_object_is_told_in_short(value: object, said: str) -> None:
    assert re.search(said, repr(value)), repr(value)
    assert type(value).__name__ in repr(value)
    assert len(repr(value)) <= CHARS_MAX
    assert "\n" not in repr(value).removesuffix("\n") or isinstance(value, PackedContext)
    if not isinstance(value, PackedContext):  # whose text is what it packed
        assert str(value) == repr(value)


@given(pages)
def test_any_page_is(page: MemoryPage) -> None:
    assert len(repr(page)) <= CHARS_MAX
    assert repr(page).startswith(f"MemoryPage(page_id={page.page_id!r}, ")
    assert page.compression_level.name in repr(page)
