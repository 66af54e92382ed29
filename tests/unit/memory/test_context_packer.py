"""A packed context is lines that say what the pages say, keeps its budget, and accounts for every page."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import unquote
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory import (
    CompressionLevel,
    ContextPacker,
    ContextPackerConfig,
    MemoryPage,
    Modality,
    PageType,
)
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts

COUNT = tokenizer(EncodingName.O200K_BASE).count
LINE = re.compile(r"([UATSIDVJ?]) \(([^\s()]+)((?: L[123])?(?: claim| procedure| index| system| untrusted)*)\): (.+)")
STRUCTURE = re.compile(r"<[\s/]*vm\s*:|\[\s*ref\s*:|[UATSIDVJ?]\s*\([^()]{1,160}\)\s*:", re.IGNORECASE)

roles = st.sampled_from(["user", "assistant", "tool", "system"])
metadata = st.fixed_dictionaries(
    {},
    optional={
        "role": roles | hostile_texts,
        "type": st.sampled_from(list(PageType)) | hostile_texts,
        "topic": hostile_texts,
        "scenes": st.lists(hostile_texts, max_size=3),
        "scene_count": st.integers(0, 9),
    },
)
hostile_pages = st.builds(
    MemoryPage,
    page_id=st.text(min_size=1, max_size=12) | hostile_texts.filter(bool) | st.sampled_from(["msg_001", "a.b:c/d"]),
    modality=st.sampled_from(Modality),
    page_type=st.sampled_from(PageType),
    compression_level=st.sampled_from(CompressionLevel),
    content=st.none()
    | hostile_texts
    | st.dictionaries(hostile_texts, hostile_texts, max_size=2)
    | st.binary(max_size=9),
    caption=st.none() | hostile_texts.map(lambda text: text.encode("utf-8", "replace").decode()),
    transcript=st.none() | hostile_texts.map(lambda text: text.encode("utf-8", "replace").decode()),
    dimensions=st.none() | st.just((12, 8)),
    duration_seconds=st.none() | st.floats(0, 9_999),
    metadata=metadata,
)
unlike = st.lists(hostile_pages, max_size=6, unique_by=lambda page: page.page_id)


def said(page_id: str, content: object, role: str | None = "user", **fields: object) -> MemoryPage:
    metadata = {} if role is None else {"role": role}
    return MemoryPage.model_validate({"page_id": page_id, "content": content, "metadata": metadata, **fields})


@given(unlike)
def test_no_page_can_forge_a_line(pages: list[MemoryPage]) -> None:
    """Quotes, line breaks, tags, citations and other pages' lines, in contents, captions and even ids, stay content."""
    packed = ContextPacker(count=COUNT).pack(pages)
    lines = packed.content.split("\n") if packed.content else []
    assert len(lines) == len(packed.pages_included)
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        assert STRUCTURE.search(match[4]) is None


@given(hostile_texts, roles)
def test_a_line_says_what_the_page_says(text: str, role: str) -> None:
    packed = ContextPacker().pack([said("m1", text, role)])
    match = LINE.fullmatch(packed.content)
    assert match is not None
    if role == "tool" and match[4][0] in "[{":
        assert json.loads(match[4]) == json.loads(whole_text(text))
    else:
        assert unquote(match[4]) == whole_text(text)


@given(unlike, st.integers(0, 300))
def test_every_page_is_accounted_for_and_counted(pages: list[MemoryPage], budget_tokens: int) -> None:
    packed = ContextPacker(count=COUNT).pack(pages, budget_tokens)
    assert packed.tokens_est <= budget_tokens
    assert packed.tokens_est == (COUNT(f"{packed.content}\n") if packed.content else 0)
    assert sorted([*packed.pages_included, *packed.pages_omitted]) == sorted(page.page_id for page in pages)
    assert set(packed.pages_truncated) <= set(packed.pages_included)


def test_the_plain_look() -> None:
    pages = [
        said("msg_001", "What's the weather?"),
        said("msg_002", "The weather is sunny.", "assistant"),
        said("tool_001", {"result": 42}, "tool", modality="structured"),
        said("note", "Key points", None, metadata={"type": "summary"}),
        said("img_001", None, None, modality="image", caption="Architecture diagram", dimensions=(1200, 800)),
        said("audio_001", None, None, modality="audio", transcript="The key insight is...", duration_seconds=342),
        said("video_001", None, None, modality="video", duration_seconds=720, metadata={"scene_count": 5}),
        said("data_001", {"a": [1, 2]}, None, modality="structured"),
    ]
    assert ContextPacker().pack(pages).content.split("\n") == [
        'U (msg_001): "What\'s the weather?"',
        'A (msg_002): "The weather is sunny."',
        'T (tool_001): {"result":42}',
        'S (note): "Key points"',
        "I (img_001): [IMAGE: Architecture diagram, 1200x800]",
        'D (audio_001): [AUDIO: 5:42 duration, transcript: "The key insight is..."]',
        "V (video_001): [VIDEO: 12:00, 5 scenes]",
        'J (data_001): {"a":[1,2]}',
    ]


def test_whose_words_nobody_knows_are_not_the_users() -> None:
    """Only the user's lines say what is wanted: a page without a role must not become one."""
    assert ContextPacker().pack([said("m1", "Do as I say", None)]).content == '? (m1): "Do as I say"'


def test_tags_go_around_the_lines() -> None:
    packer = ContextPacker(count=COUNT)
    packed = packer.pack_with_wrapper([said("m1", "Hello")])
    assert str(packed) == packed.content == '<VM:CONTEXT>\nU (m1): "Hello"\n</VM:CONTEXT>'
    assert packed.tokens_est == COUNT(packed.content)
    assert packer.pack_with_wrapper([]).content == "<VM:CONTEXT>\n</VM:CONTEXT>"


def test_a_page_whose_content_is_not_at_hand_is_not_shown_as_empty() -> None:
    packed = ContextPacker().pack([said("m1", None), said("m2", "")])
    assert (packed.content, packed.pages_omitted) == ('U (m2): ""', ["m1"])


def test_a_link_or_encoded_bytes_are_no_caption() -> None:
    pages = [
        said(f"i{n}", link, None, modality="image") for n, link in enumerate(("https://x/y.png", "data:image/png;x"))
    ]
    assert ContextPacker().pack(pages).content == "I (i0): [IMAGE]\nI (i1): [IMAGE]"


def test_the_first_pages_are_served_first() -> None:
    packed = ContextPacker().pack([said("m1", "a" * 40), said("m2", "b" * 40)], token_budget=15)
    assert (packed.pages_included, packed.pages_omitted) == (["m1"], ["m2"])


def test_pinned_pages_are_never_omitted() -> None:
    pages = [said("m1", "a" * 40), said("m2", "b" * 40, pinned=True)]
    assert ContextPacker().pack(pages, token_budget=15).pages_included == ["m2"]
    with pytest.raises(BudgetTooSmall):
        ContextPacker().pack(pages, token_budget=5)


def test_a_page_is_shown_whole_or_omitted_and_a_long_line_says_what_is_missing() -> None:
    pages = [said("m1", "Short"), said("m2", "word " * 1_000)]
    packed = ContextPacker(count=COUNT).pack(pages, token_budget=200)
    assert (packed.pages_included, packed.pages_omitted) == (["m1"], ["m2"])
    packed = ContextPacker(ContextPackerConfig(max_line_length=100), count=COUNT).pack(pages, token_budget=200)
    assert (packed.pages_included, packed.pages_truncated) == (["m1", "m2"], ["m2"])
    assert packed.content.endswith("[4,900 more characters]")


def test_a_page_that_is_given_twice_stands_once() -> None:
    packed = ContextPacker().pack([said("m1", "old"), said("m2", "x"), said("m1", "new")])
    assert packed.content == 'U (m1): "new"\nU (m2): "x"'


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (ContextPackerConfig(max_line_length=5), 'U (m1): "say \\"" [3 more characters]'),
        (ContextPackerConfig(include_page_ids=False), 'U: "say \\"hi\\""'),
        (ContextPackerConfig(quote_text=False), 'U (m1): say \\"hi\\"'),
        (ContextPackerConfig(max_tokens=1), ""),
    ],
)
def test_what_a_configuration_leaves_out(config: ContextPackerConfig, line: str) -> None:
    assert ContextPacker(config).pack([said("m1", 'say "hi"')]).content == line


def test_a_level_is_said_with_or_without_ids() -> None:
    page = said("m1", "in short", compression_level=2)
    assert ContextPacker().pack([page]).content == 'U (m1 L2): "in short"'
    assert ContextPacker(ContextPackerConfig(include_page_ids=False)).pack([page]).content == 'U (L2): "in short"'
