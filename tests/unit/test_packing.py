"""A page is one line, lines add up in tokens, and packing keeps a budget by adding."""

import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import compact_json
from pagekeeper.core.packing import (
    SAID_UNIX_MS_MAX,
    ContextPage,
    ContextPrefix,
    PackedLine,
    ParsedLine,
    attribution_of,
    marks_of,
    pack,
    pack_by_utility,
    parse_line,
    prefix_of,
    render_line,
    render_media_line,
)
from pagekeeper.core.pages import MediaDescription, MessageRole, Modality, PageType, TrustClass
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts, json_documents, page_ids

COUNTS = {name: tokenizer(name).count for name in EncodingName}
MEDIA_PREFIXES = (ContextPrefix.IMAGE, ContextPrefix.AUDIO, ContextPrefix.VIDEO)

contents = hostile_texts | json_documents
attributions = st.builds(
    attribution_of,
    st.just("") | hostile_texts,
    st.just("") | hostile_texts,
    st.just(0) | st.integers(1, SAID_UNIX_MS_MAX),
)
text_lines = st.builds(
    render_line,
    st.sampled_from(ContextPrefix),
    page_ids,
    st.integers(0, 3),
    contents,
    attribution=attributions,
    marks=st.sampled_from(((), ("claim",), ("claim", "untrusted"))),
    chars_max=st.none() | st.integers(0, 40),
)
descriptions = st.builds(
    MediaDescription,
    caption=hostile_texts,
    transcript=hostile_texts,
    width=st.integers(0, 10_000),
    height=st.integers(0, 10_000),
    duration_seconds=st.floats(0, 1e6) | st.sampled_from((math.nan, math.inf)),
    scenes=st.lists(hostile_texts, max_size=3).map(tuple),
)
media_lines = st.builds(render_media_line, st.sampled_from(MEDIA_PREFIXES), page_ids, descriptions)
lines = text_lines | media_lines


@given(lines)
def test_a_page_is_exactly_one_line(line: str) -> None:
    assert len(line.splitlines()) == 1
    assert parse_line(line) is not None
    assert line[-2] in '"]}'
    assert "<VM:" not in line.upper()
    line.encode()


@given(lines)
def test_a_line_has_one_header(line: str) -> None:
    headers = re.findall(r"[UATSIDVJ?] \([^()]+\):", line)
    assert len(headers) == 1
    assert line.startswith(headers[0])


@given(
    st.sampled_from(ContextPrefix),
    page_ids,
    st.integers(0, 3),
    contents,
    st.sampled_from(((), ("claim",), ("procedure", "untrusted"), ("system",))),
    st.none() | st.integers(0, 40),
    attributions,
)
def test_a_line_reads_as_what_was_written(
    prefix: ContextPrefix,
    page_id: str,
    level: int,
    text: str,
    marks: tuple[str, ...],
    chars_max: int | None,
    attribution: str,
) -> None:
    line = render_line(prefix, page_id, level, text, attribution=attribution, marks=marks, chars_max=chars_max)
    missing = 0 if chars_max is None else max(0, len(text) - chars_max)
    json_prefix = prefix in (ContextPrefix.TOOL, ContextPrefix.STRUCTURED)
    compact = compact_json(text) if json_prefix and not missing else None
    shown = text[: len(text) - missing] if compact is None else compact
    written = ParsedLine(prefix, page_id, level, marks, shown, missing, attribution)
    assert parse_line(line) == parse_line(line.removesuffix("\n")) == written
    if not missing:
        assert render_line(prefix, page_id, level, written.text, attribution=attribution, marks=marks) == line


@given(st.sampled_from(MEDIA_PREFIXES), page_ids, descriptions)
def test_a_line_of_a_medium_reads_as_its_description(
    prefix: ContextPrefix, page_id: str, media: MediaDescription
) -> None:
    line = render_media_line(prefix, page_id, media, marks=("untrusted",))
    parsed = parse_line(line)
    assert parsed == ParsedLine(prefix, page_id, 0, ("untrusted",), line.partition("): ")[2].removesuffix("\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "U (p1)",
        "U (p1): ",
        "U (p1): bare words",
        'u (p1): "x"',
        'W (p1): "x"',
        ' U (p1): "x"',
        'U (p 1): "x"',
        'U (p1 L4): "x"',
        'U (): "x"',
        'U (p1): "x"\n\n',
        'U (p1): "x" and more',
        'U (p1): "x" [many more characters]',
        'U (p1): "x"\nU (p2): "y"',
        'T (p1): {"a":1',
    ],
)
def test_what_is_no_line_is_not_read_as_one(text: str) -> None:
    assert parse_line(text) is None


@settings(max_examples=250)
@given(st.lists(lines, min_size=2, max_size=6))
def test_tokens_add_up_over_lines(chosen: list[str]) -> None:
    for name, count in COUNTS.items():
        assert count("".join(chosen)) == sum(map(count, chosen)), name


@settings(max_examples=250)
@given(hostile_texts, hostile_texts)
def test_tokens_add_up_wherever_a_line_break_meets_a_letter(before: str, after: str) -> None:
    """The law underneath, whatever stands on either side."""
    one, other = before + "\n", "U" + after
    for name, count in COUNTS.items():
        assert count(one + other) == count(one) + count(other), name


@pytest.mark.parametrize(("end", "start"), [("x", "y"), ('"', "\n"), ('"\n', "/"), ("\n", "\n"), ("\n", " \n")])
def test_tokens_do_not_add_up_just_anywhere(end: str, start: str) -> None:
    """Why lines look as they do: other seams move tokens in at least one encoding."""
    assert any(count(end + start) != count(end) + count(start) for count in COUNTS.values())


def page_of(number: int, tokens: int, *, lower: tuple[int, ...] = (), mandatory: bool = False) -> ContextPage:
    line = PackedLine(f"p{number}", 0, f"U (p{number}): {tokens}\n", tokens)
    rest = tuple(
        PackedLine(f"p{number}", level, f"U (p{number} L{level}): {t}\n", t) for level, t in enumerate(lower, 1)
    )
    return ContextPage(line, rest, mandatory=mandatory)


@st.composite
def packings(draw: st.DrawFn) -> tuple[list[ContextPage], list[str], int]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3), st.booleans()), max_size=12))
    pages = [
        page_of(n, tokens, lower=tuple(max(1, tokens // (d + 2)) for d in range(depth)), mandatory=mandatory)
        for n, (tokens, depth, mandatory) in enumerate(sizes)
    ]
    named = draw(st.permutations([page.line.page_id for page in pages]))
    return pages, named[: draw(st.integers(0, len(named)))], draw(st.integers(0, 300))


@given(packings())
def test_packing_keeps_budget_order_and_mandatory_pages(packing: tuple[list[ContextPage], list[str], int]) -> None:
    pages, eviction_order, budget_tokens = packing
    floor = sum(min(line.tokens for line in (page.line, *page.lower)) for page in pages if page.mandatory)
    if floor > budget_tokens:
        with pytest.raises(BudgetTooSmall) as refusal:
            pack(pages, budget_tokens=budget_tokens, eviction_order=eviction_order)
        assert refusal.value.needed_tokens == floor
        return
    packed = pack(pages, budget_tokens=budget_tokens, eviction_order=eviction_order)
    shown = [line.page_id for line in packed.included]
    ids = [page.line.page_id for page in pages]
    assert packed.tokens == sum(line.tokens for line in packed.included) <= budget_tokens
    assert packed.content == "".join(line.text for line in packed.included)
    assert shown == [page_id for page_id in ids if page_id in shown]
    assert sorted([*shown, *packed.omitted]) == sorted(ids)
    assert {page.line.page_id for page in pages if page.mandatory} <= set(shown)
    assert list(packed.lowered) == [line.page_id for line in packed.included if line.level]
    assert packed == pack(pages, budget_tokens=budget_tokens, eviction_order=eviction_order)


@given(packings())
def test_nothing_is_left_out_that_had_room(packing: tuple[list[ContextPage], list[str], int]) -> None:
    pages, eviction_order, budget_tokens = packing
    floor = sum(min(line.tokens for line in (page.line, *page.lower)) for page in pages if page.mandatory)
    packed = pack(pages, budget_tokens=budget_tokens + floor, eviction_order=eviction_order)
    room_tokens = budget_tokens + floor - packed.tokens
    for page in pages:
        if page.line.page_id in packed.omitted:
            assert all(line.tokens > room_tokens for line in (page.line, *page.lower))


def test_pages_leave_in_eviction_order() -> None:
    pages = [page_of(n, 10) for n in range(5)]
    order = ["p3", "p0", "p4", "p1", "p2"]
    for kept in range(6):
        packed = pack(pages, budget_tokens=10 * kept + 9, eviction_order=order)
        assert set(packed.omitted) == set(order[: 5 - kept])


def test_a_large_page_falls_to_the_level_that_fits() -> None:
    pages = [page_of(0, 10), page_of(1, 100, lower=(40, 15, 3)), page_of(2, 10)]
    for budget_tokens, level in ((120, 0), (119, 1), (60, 1), (59, 2), (35, 2), (34, 3), (23, 3)):
        packed = pack(pages, budget_tokens=budget_tokens, eviction_order=["p1", "p0", "p2"])
        assert [line.level for line in packed.included] == [0, level, 0]
    assert pack(pages, budget_tokens=22, eviction_order=["p1", "p0", "p2"]).omitted == ("p1",)


@given(packings(), st.lists(st.integers(0, 5), min_size=12, max_size=12), st.integers(0, 12))
def test_packing_by_utility_keeps_what_packing_keeps(
    packing: tuple[list[ContextPage], list[str], int], utilities: list[int], split: int
) -> None:
    pages, eviction_order, budget_tokens = packing
    utility = {f"p{number}": value / 5 for number, value in enumerate(utilities)}
    groups = (pages[:split], pages[split:])
    floor = sum(min(line.tokens for line in (page.line, *page.lower)) for page in pages if page.mandatory)
    if floor > budget_tokens:
        with pytest.raises(BudgetTooSmall):
            pack_by_utility(groups, budget_tokens=budget_tokens, utility=utility, eviction_order=eviction_order)
        return
    packs = pack_by_utility(groups, budget_tokens=budget_tokens, utility=utility, eviction_order=eviction_order)
    room_tokens = budget_tokens - sum(packed.tokens for packed in packs)
    assert room_tokens >= 0
    for group, packed in zip(groups, packs, strict=True):
        shown = [line.page_id for line in packed.included]
        assert packed.tokens == sum(line.tokens for line in packed.included)
        assert shown == [page.line.page_id for page in group if page.line.page_id in shown]
        assert {page.line.page_id for page in group if page.mandatory} <= set(shown)
        for page in group:
            if page.line.page_id in packed.omitted:
                assert all(line.tokens > room_tokens for line in (page.line, *page.lower))
    assert packs == pack_by_utility(groups, budget_tokens=budget_tokens, utility=utility, eviction_order=eviction_order)


def test_utility_decides_who_is_shown_and_who_is_shown_in_full() -> None:
    """Two reduced pages have more utility than one in full, until one has far more than the other."""
    pages = [page_of(0, 20, lower=(10,)), page_of(1, 20, lower=(10,)), page_of(2, 20, lower=(10,))]
    for utilities, levels in (
        ((1.0, 0.9, 0.8), {"p0": 1, "p1": 1}),
        ((0.0, 0.9, 0.8), {"p1": 1, "p2": 1}),
        ((1.0, 0.09, 0.08), {"p0": 0}),
        ((0.0, 0.0, 0.0), {"p2": 0}),
    ):
        utility = {f"p{number}": value for number, value in enumerate(utilities)}
        (packed,) = pack_by_utility((pages,), budget_tokens=20, utility=utility)
        assert {line.page_id: line.level for line in packed.included} == levels


def test_lines_as_the_guide_shows_them() -> None:
    image = MediaDescription(caption="Architecture diagram", width=1200, height=800)
    audio = MediaDescription(transcript="The key insight is...", duration_seconds=342)
    video = MediaDescription(duration_seconds=720, scenes=tuple("abcde"))
    assert (
        render_line(ContextPrefix.USER, "msg_001", 0, "What's the weather?") == 'U (msg_001): "What\'s the weather?"\n'
    )
    said = attribution_of("Alice (work)", said_unix_ms=1_778_248_980_000)
    assert render_line(ContextPrefix.USER, "p1", 0, "Hi", attribution=said) == (
        'U (p1 "Alice \\u{28}work\\u{29}" 2026-05-08 14:03): "Hi"\n'
    )
    call = attribution_of("stock_lyon", "c1")
    assert render_line(ContextPrefix.TOOL, "p2", 0, "true", attribution=call) == 'T (p2 "stock_lyon" "c1"): "true"\n'
    assert attribution_of("", "c1") == ""
    assert render_line(ContextPrefix.USER, "msg_001", 1, "Weather?") == 'U (msg_001 L1): "Weather?"\n'
    assert render_line(ContextPrefix.TOOL, "tool_001", 0, '{"result": 42}') == 'T (tool_001): {"result":42}\n'
    assert render_line(ContextPrefix.TOOL, "tool_001", 0, "42") == 'T (tool_001): "42"\n'
    assert render_line(ContextPrefix.ASSISTANT, "msg_002", 0, "[1]") == 'A (msg_002): "[1]"\n'
    assert render_line(ContextPrefix.SUMMARY, "c1", 0, "Use SQL", marks=("claim",)) == 'S (c1 claim): "Use SQL"\n'
    assert (
        render_media_line(ContextPrefix.IMAGE, "img_001", image)
        == "I (img_001): [IMAGE: Architecture diagram, 1200x800]\n"
    )
    assert render_media_line(ContextPrefix.AUDIO, "audio_001", audio) == (
        'D (audio_001): [AUDIO: 5:42 duration, transcript: "The key insight is..."]\n'
    )
    assert render_media_line(ContextPrefix.VIDEO, "video_001", video) == (
        'V (video_001): [VIDEO: 12:00, 5 scenes: "a; b; c; d; e"]\n'
    )
    assert render_media_line(ContextPrefix.IMAGE, "img_002", MediaDescription()) == "I (img_002): [IMAGE]\n"
    assert (
        render_media_line(ContextPrefix.IMAGE, "i", MediaDescription(caption="x, 1x1] y"))
        == 'I (i): [IMAGE: "x, 1x1] y"]\n'
    )


def test_text_is_cut_only_when_asked_and_says_so() -> None:
    text = "a" * 3_000
    assert render_line(ContextPrefix.USER, "m", 0, text) == f'U (m): "{text}"\n'
    assert render_line(ContextPrefix.USER, "m", 0, text, chars_max=3_000) == f'U (m): "{text}"\n'
    assert render_line(ContextPrefix.USER, "m", 0, text, chars_max=5) == 'U (m): "aaaaa" [2,995 more characters]\n'


def test_a_text_prefix_is_not_a_medium() -> None:
    with pytest.raises(ValueError, match="USER"):
        render_media_line(ContextPrefix.USER, "m", MediaDescription())


@pytest.mark.parametrize(
    ("modality", "page_type", "role", "prefix"),
    [
        (Modality.TEXT, PageType.TRANSCRIPT, MessageRole.USER, "U"),
        (Modality.TEXT, PageType.TRANSCRIPT, MessageRole.ASSISTANT, "A"),
        (Modality.TEXT, PageType.ARTIFACT, MessageRole.TOOL, "T"),
        (Modality.STRUCTURED, PageType.TRANSCRIPT, MessageRole.TOOL, "T"),
        (Modality.STRUCTURED, PageType.TRANSCRIPT, MessageRole.USER, "J"),
        (Modality.TEXT, PageType.SUMMARY, MessageRole.ASSISTANT, "S"),
        (Modality.TEXT, PageType.CLAIM, MessageRole.USER, "S"),
        (Modality.TEXT, PageType.TRANSCRIPT, MessageRole.SYSTEM, "S"),
        (Modality.IMAGE, PageType.TRANSCRIPT, MessageRole.USER, "I"),
        (Modality.AUDIO, PageType.TRANSCRIPT, MessageRole.TOOL, "D"),
        (Modality.VIDEO, PageType.ARTIFACT, None, "V"),
        (Modality.TEXT, PageType.TRANSCRIPT, None, "?"),
    ],
)
def test_prefixes(modality: Modality, page_type: PageType, role: MessageRole | None, prefix: str) -> None:
    assert prefix_of(modality, page_type, role) == prefix


def test_marks_say_what_the_prefix_does_not() -> None:
    for page_type, role, trust in itertools.product(PageType, [*MessageRole, None], TrustClass):
        for prefix in ContextPrefix:
            marks = marks_of(prefix, page_type, role, trust)
            assert ("untrusted" in marks) == (trust is TrustClass.TOOL and prefix is not ContextPrefix.TOOL)
            assert ("claim" in marks) == (page_type is PageType.CLAIM)
