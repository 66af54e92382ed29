"""Pages of every kind, for the laws of what an application holds."""

from hypothesis import strategies as st

from pagekeeper.memory import CompressionLevel, MemoryPage, Modality, PageType, StorageTier

IDS = ("a", "b", "c", "d", "e")
page_ids = st.sampled_from(IDS)
texts = st.text(st.characters(codec="utf-8"), max_size=200)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
contents = texts | st.binary(max_size=50) | values

pages = st.builds(
    MemoryPage,
    page_id=page_ids,
    modality=st.sampled_from(Modality),
    page_type=st.sampled_from(PageType),
    storage_tier=st.sampled_from(StorageTier),
    content=contents,
    size_tokens=st.none() | st.integers(0, 500),
    size_bytes=st.integers(0, 10_000),
    importance=st.floats(0, 1),
    pinned=st.booleans(),
    caption=st.none() | texts,
    transcript=st.none() | texts,
    dimensions=st.none() | st.tuples(st.integers(1, 9_999), st.integers(1, 9_999)),
    duration_seconds=st.none() | st.floats(0, 10_000),
    metadata=st.dictionaries(st.sampled_from(["role", "type", "scenes"]), texts, max_size=2),
)
lower_levels = st.sampled_from([level for level in CompressionLevel if level])


def text_page(page_id: str = "p1", content: str = "", size_tokens: int | None = None) -> MemoryPage:
    return MemoryPage(page_id=page_id, content=content, size_tokens=size_tokens)
