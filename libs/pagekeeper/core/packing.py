"""Pages as lines of a prompt, written and read back, and which lines a budget has room for.

Invariant: a page is exactly one line. It starts with its prefix letter, names the page in parentheses, and ends with
the only line break in it, which follows a quote, a bracket or a brace. Tokenizers that split text before they merge
(o200k, cl100k and their kin) always split between that line break and the next letter, so tokens are additive:
`count(a + b) == count(a) + count(b)` for any two lines. A line is counted once, when its page is written, and a budget
is kept by adding. The law is tested against the tokenizers themselves.

Packing never cuts a page: a page that does not fit is shown at a lower level that it has, or left out and reported.
What goes is said by an order of eviction, or by the pages' utility to the words that the prompt is for.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import compact_json, escape, quote, unquote
from pagekeeper.core.pages import CompressionLevel, MediaDescription, MessageRole, Modality, PageType, TrustClass
from pagekeeper.core.payloads import elided


class ContextPrefix(StrEnum):
    """The letter that a line starts with."""

    USER = "U"
    ASSISTANT = "A"
    TOOL = "T"
    SUMMARY = "S"
    IMAGE = "I"
    AUDIO = "D"
    VIDEO = "V"
    STRUCTURED = "J"
    UNKNOWN = "?"


_PREFIX_OF_MEDIUM: Final = {
    Modality.IMAGE: ContextPrefix.IMAGE,
    Modality.AUDIO: ContextPrefix.AUDIO,
    Modality.VIDEO: ContextPrefix.VIDEO,
}
_PREFIX_OF_ROLE: Final = {
    MessageRole.USER: ContextPrefix.USER,
    MessageRole.ASSISTANT: ContextPrefix.ASSISTANT,
    MessageRole.TOOL: ContextPrefix.TOOL,
    MessageRole.SYSTEM: ContextPrefix.SUMMARY,
}
_MARKED_TYPES: Final = frozenset({PageType.CLAIM, PageType.PROCEDURE, PageType.INDEX})
_SUMMARISING_TYPES: Final = _MARKED_TYPES | {PageType.SUMMARY}

# A line: its prefix, a space, its header in parentheses, a colon, a space, its body, a line break. The header names the
# page, and after a space each, where there is one, the speaker in quotes, the tool call in quotes, the time, the level
# unless it is 0, and marks. The body is a text in quotes, with a note behind it
# when it was cut; or JSON; or a medium's description in brackets.
_LINE: Final = re.compile(
    rf"([{re.escape(''.join(ContextPrefix))}]) \(([^\s()]+)"
    r"""((?: "(?:[^"\\]|\\.)*"){0,2}(?: \d{4,}-\d\d-\d\d \d\d:\d\d)?)(?: L([1-3]))?((?: [a-z]+)*)\): """
    r"""(?:(".*")(?: \[([\d,]+) more characters\])?|(\{.*\}|\[.*\]))\n?"""
)

SAID_UNIX_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, in milliseconds since 1970: the latest time that a line shows."""
VERBATIM_SHARE: Final = 0.1
"""Share of a page's utility that its full line adds to its reduced one. An upgrade competes for tokens by
`utility * min(1, VERBATIM_SHARE * reduced_tokens / added_tokens)`."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """The content of a line. `text` is the page's content at `level`, or of a medium at full level its description.

    JSON is as the line has it: compact. `chars_missing` is how many characters were cut off the end.
    """

    prefix: ContextPrefix
    page_id: str
    level: int
    marks: tuple[str, ...]
    text: str
    chars_missing: int = 0
    attribution: str = ""
    """Who said the page, in answer to which call and when: as `attribution_of` writes it."""


@dataclass(frozen=True, slots=True)
class PackedLine:
    """A page's line at one level. `tokens` counts all of `text`, header and line break included."""

    page_id: str
    level: int
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class ContextPage:
    """A page that wants a place in the prompt: its line, and its lines at lower levels, the next lower first.

    A mandatory page may be lowered when there is no other way, but is never left out.
    """

    line: PackedLine
    lower: tuple[PackedLine, ...] = ()
    mandatory: bool = False


@dataclass(frozen=True, slots=True)
class PackedContext:
    """The lines that fit, in the order given. `tokens` is the sum over the lines, and the token count of `content`.

    `texts` are those of the lines.
    """

    tokens: int
    included: tuple[PackedLine, ...]
    texts: tuple[str, ...]
    lowered: tuple[str, ...]
    omitted: tuple[str, ...]

    @property
    def content(self) -> str:
        """The lines, one after the other."""
        return "".join(self.texts)


def prefix_of(modality: Modality, page_type: PageType, role: MessageRole | None) -> ContextPrefix:
    if modality in _PREFIX_OF_MEDIUM:
        return _PREFIX_OF_MEDIUM[modality]
    if page_type in _SUMMARISING_TYPES:
        return ContextPrefix.SUMMARY
    if modality is Modality.STRUCTURED and role is not MessageRole.TOOL:
        return ContextPrefix.STRUCTURED
    return ContextPrefix.UNKNOWN if role is None else _PREFIX_OF_ROLE[role]


def marks_of(
    prefix: ContextPrefix, page_type: PageType, role: MessageRole | None, trust: TrustClass
) -> tuple[str, ...]:
    """Words of a line's header for what its prefix does not say: the kind of summary, and that a tool is behind it."""
    marks: list[str] = []
    if page_type in _MARKED_TYPES:
        marks.append(page_type.value)
    elif role is MessageRole.SYSTEM:
        marks.append(role.value)
    if trust is TrustClass.TOOL and prefix is not ContextPrefix.TOOL:
        marks.append("untrusted")
    return tuple(marks)


def attribution_of(speaker: str, tool_call_id: str = "", said_unix_ms: int = 0) -> str:
    """The part of a line's header that says who said the page, in answer to which tool call, and when in UTC.

    A call is named beside a speaker alone. Empty when there is nothing to say. Parentheses in names are escaped: the
    first one ends a header.
    """
    names = [quote(name) for name in (speaker, tool_call_id) if speaker and name]
    names = [name.replace("(", r"\u{28}").replace(")", r"\u{29}") for name in names]
    return " ".join([*names, *([said_at(said_unix_ms)] if said_unix_ms else [])])


def said_at(unix_ms: int) -> str:
    """The time as `2026-05-08 14:03`, in UTC."""
    return f"{datetime.fromtimestamp(unix_ms // 1000, UTC):%Y-%m-%d %H:%M}"


def render_line(
    prefix: ContextPrefix,
    page_id: str,
    level: int,
    text: str,
    *,
    attribution: str = "",
    marks: Sequence[str] = (),
    chars_max: int | None = None,
) -> str:
    """The line of a page whose content at `level` is `text`.

    Tool results and structured data that are JSON objects or arrays stand as compact JSON, everything else in quotes.
    In the place of an encoded payload stands a note of it.
    With `chars_max`, longer text is cut there and the line says how many characters are missing.
    """
    text = elided(text)
    header = _header(prefix, page_id, attribution, level, marks)
    if chars_max is not None and len(text) > chars_max:
        return f"{header}{quote(text[:chars_max])} [{len(text) - chars_max:,} more characters]\n"
    if prefix in (ContextPrefix.TOOL, ContextPrefix.STRUCTURED):
        compact = compact_json(text)
        if compact is not None:
            return f"{header}{compact}\n"
    return f"{header}{quote(text)}\n"


def render_media_line(
    prefix: ContextPrefix,
    page_id: str,
    media: MediaDescription,
    *,
    attribution: str = "",
    marks: Sequence[str] = (),
) -> str:
    """The line of a medium at full level, of which a text prompt can only show the description."""
    header = _header(prefix, page_id, attribution, 0, marks)
    match prefix:
        case ContextPrefix.IMAGE:
            return f"{header}{_bracket('IMAGE', _image_facts(media))}\n"
        case ContextPrefix.AUDIO:
            return f"{header}{_bracket('AUDIO', _audio_facts(media))}\n"
        case ContextPrefix.VIDEO:
            return f"{header}{_bracket('VIDEO', _video_facts(media))}\n"
        case _:
            raise ValueError(f"{prefix.name} is not the prefix of a medium")


def parse_line(line: str) -> ParsedLine | None:
    """Return the content of a line of `render_line` or `render_media_line`; None for any other line."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    prefix, page_id, attribution, level, marks, quoted, missing, written = found.groups()
    return ParsedLine(
        ContextPrefix(prefix),
        page_id,
        int(level or 0),
        tuple(marks.split()),
        written if quoted is None else unquote(quoted),
        int(missing.replace(",", "")) if missing else 0,
        attribution.removeprefix(" "),
    )


def lowest_tokens(page: ContextPage) -> int:
    """A page's shortest line in tokens, over its levels."""
    return min(line.tokens for line in (page.line, *page.lower))


def pack(pages: Sequence[ContextPage], *, budget_tokens: int, eviction_order: Sequence[str] = ()) -> PackedContext:
    """Choose what is shown of `pages`, in their order.

    When not everything fits, the pages that `eviction_order` names last are served first, each at the highest level
    that still fits; pages that it does not name come before those, the latest first, and mandatory pages before all.

    Raises BudgetTooSmall when the mandatory pages exceed the budget at their lowest levels.
    """
    if sum([page.line.tokens for page in pages]) <= budget_tokens:
        return _packed(pages, [page.line for page in pages])
    floors = [lowest_tokens(page) if page.mandatory else 0 for page in pages]
    room_tokens = budget_tokens - sum(floors)
    if room_tokens < 0:
        raise BudgetTooSmall(budget_tokens=budget_tokens, needed_tokens=sum(floors))
    chosen: list[PackedLine | None] = [None] * len(pages)
    for index in _by_claim_to_a_place(pages, eviction_order):
        page, floor_tokens = pages[index], floors[index]
        for line in (page.line, *page.lower):
            if line.tokens - floor_tokens <= room_tokens:
                chosen[index] = line
                room_tokens -= line.tokens - floor_tokens
                break
    return _packed(pages, chosen)


def pack_by_utility(
    groups: Sequence[Sequence[ContextPage]],
    *,
    budget_tokens: int,
    utility: Mapping[str, float],
    eviction_order: Sequence[str] = (),
    verbatim_share: float = VERBATIM_SHARE,
) -> list[PackedContext]:
    """Choose what is shown of several groups of pages together, each in its order, so that the most utility fits.

    A page has its `utility`, reduced a little less, and is shown reduced first: it is shown in full when that adds more
    for its tokens than the next page would. Mandatory pages come first, in full as far as they fit. What room is left
    at last is filled as `pack` does, pages of no utility behind the others. `utility` is by page id, at least 0, and
    already says what a page costs.

    Raises BudgetTooSmall when the mandatory pages exceed the budget at their lowest levels.
    """
    pages = [page for group in groups for page in group]
    required = [page for page in pages if page.mandatory]
    kept = pack(required, budget_tokens=budget_tokens, eviction_order=eviction_order)
    shown = {line.page_id: line for line in kept.included}
    room_tokens = budget_tokens - kept.tokens
    optional = {page.line.page_id: page for page in pages if not page.mandatory}
    steps = sorted(
        _steps(optional, utility, verbatim_share), key=lambda step: (-step.utility, step.line.page_id, -step.line.level)
    )
    for step in steps:
        added_tokens = step.line.tokens - (shown[step.line.page_id].tokens if step.line.page_id in shown else 0)
        if added_tokens <= room_tokens:
            shown[step.line.page_id] = step.line
            room_tokens -= added_tokens
    rest = [page for page_id, page in optional.items() if page_id not in shown]
    by_utility = sorted((page_id for page_id in optional if utility.get(page_id)), key=lambda page_id: utility[page_id])
    unasked = [page_id for page_id in (*eviction_order, *optional) if not utility.get(page_id)]
    filled = pack(rest, budget_tokens=room_tokens, eviction_order=[*dict.fromkeys(unasked), *by_utility])
    shown |= {line.page_id: line for line in filled.included}
    return [_packed(group, [shown.get(page.line.page_id) for page in group]) for group in groups]


@dataclass(frozen=True, slots=True)
class _Step:
    """A line that a page may be shown with, and the utility of each token that it adds."""

    line: PackedLine
    utility: float


def _steps(pages: Mapping[str, ContextPage], utility: Mapping[str, float], verbatim_share: float) -> Iterator[_Step]:
    """For each page that has utility, its reduced line, then its full one if that is longer.

    A medium's reduced line may be the longer one: it says what its bytes tell, its full line what was written about it.
    """
    for page_id, page in pages.items():
        value = utility.get(page_id, 0.0)
        if value <= 0.0:
            continue
        reduced = next((line for line in page.lower if line.level == CompressionLevel.REDUCED), page.line)
        yield _Step(reduced, value)
        added_tokens = page.line.tokens - reduced.tokens
        if added_tokens > 0:
            yield _Step(page.line, value * min(verbatim_share * reduced.tokens / added_tokens, 1.0))


def _by_claim_to_a_place(pages: Sequence[ContextPage], eviction_order: Sequence[str]) -> list[int]:
    """Positions in `pages`, those to be served first at the front."""
    rank = {page_id: position for position, page_id in enumerate(eviction_order)}
    unranked = len(rank)

    def claim(index: int) -> tuple[bool, int, int]:
        page = pages[index]
        return page.mandatory, rank.get(page.line.page_id, unranked), index

    return sorted(range(len(pages)), key=claim, reverse=True)


def _packed(pages: Sequence[ContextPage], chosen: Sequence[PackedLine | None]) -> PackedContext:
    included = [line for line in chosen if line is not None]
    shown = list(zip(pages, chosen, strict=True))
    return PackedContext(
        tokens=sum([line.tokens for line in included]),
        included=tuple(included),
        texts=tuple([line.text for line in included]),
        lowered=tuple(page.line.page_id for page, line in shown if line is not None and line is not page.line),
        omitted=tuple(page.line.page_id for page, line in shown if line is None),
    )


def _header(prefix: ContextPrefix, page_id: str, attribution: str, level: int, marks: Sequence[str]) -> str:
    words = [page_id, *([attribution] if attribution else []), *([f"L{level}"] if level else []), *marks]
    return f"{prefix.value} ({' '.join(words)}): "


def _bracket(kind: str, facts: Sequence[str]) -> str:
    return f"[{kind}: {', '.join(facts)}]" if facts else f"[{kind}]"


def _image_facts(media: MediaDescription) -> list[str]:
    return [*_caption(media), *_size(media)]


def _audio_facts(media: MediaDescription) -> list[str]:
    return [*_duration(media, " duration"), *_caption(media), *_transcript(media)]


def _video_facts(media: MediaDescription) -> list[str]:
    scenes = [f"{len(media.scenes)} scenes: {quote('; '.join(media.scenes))}"] if media.scenes else []
    return [*_duration(media, ""), *_caption(media), *_size(media), *scenes, *_transcript(media)]


def _caption(media: MediaDescription) -> list[str]:
    """Bare, or in quotes when a bracket in it could end the description."""
    if not media.caption:
        return []
    return [quote(media.caption) if "]" in media.caption else escape(media.caption)]


def _size(media: MediaDescription) -> list[str]:
    return [f"{media.width}x{media.height}"] if media.width and media.height else []


def _transcript(media: MediaDescription) -> list[str]:
    return [f"transcript: {quote(media.transcript)}"] if media.transcript else []


def _duration(media: MediaDescription, unit: str) -> list[str]:
    """Playing time as m:ss, or h:mm:ss from an hour."""
    if not 0 < media.duration_seconds < math.inf:
        return []
    minutes, seconds = divmod(round(media.duration_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return [f"{hours}:{minutes:02}:{seconds:02}{unit}" if hours else f"{minutes}:{seconds:02}{unit}"]
