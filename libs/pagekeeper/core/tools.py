"""The two tools that a model has, what it may send them, and what it gets back.

This is the one edge where an error is data: whatever a model writes as a call becomes a call or a `ToolCallProblem`,
never an exception, and both results and problems become a JSON envelope for it. Envelopes hold page content, so they
are written such that it cannot act as the prompt's structure.
"""

import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Literal

from pagekeeper.core.errors import InvalidField, PagekeeperError
from pagekeeper.core.escape import compact_json, guard_json
from pagekeeper.core.ids import PageId, check_id
from pagekeeper.core.packing import said_at
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality, StorageTier
from pagekeeper.core.payloads import elided
from pagekeeper.core.wellformed import read_json, whole_text

ARGUMENTS_CHARS_MAX: Final = 65_536
"""Longer arguments are a broken model, not a question."""
SHOWN_CHARS_MAX: Final = 80
"""How much of what a model wrote an error message repeats."""
DEFAULT_TARGET_LEVEL: Final = CompressionLevel.ABSTRACT
OFFSET_MAX: Final = 2**31 - 1
DEFAULT_SEARCH_LIMIT: Final = 5
SEARCH_LIMIT_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class ToolProperty:
    """One argument, as JSON Schema has it."""

    type: Literal["string", "integer"]
    description: str
    enum: tuple[str, ...] = ()
    default: int | None = None

    def as_dict(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.type, "description": self.description}
        if self.enum:
            schema["enum"] = [str(choice) for choice in self.enum]
        if self.default is not None:
            schema["default"] = int(self.default)
        return schema


@dataclass(frozen=True, slots=True)
class ToolParameters:
    properties: Mapping[str, ToolProperty]
    required: tuple[str, ...]
    type: Literal["object"] = "object"

    def as_dict(self) -> dict[str, Any]:
        properties = {name: schema.as_dict() for name, schema in self.properties.items()}
        return {"type": self.type, "properties": properties, "required": list(self.required)}


@dataclass(frozen=True, slots=True)
class ToolFunction:
    name: str
    description: str
    parameters: ToolParameters

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.parameters.as_dict()}


@dataclass(frozen=True, slots=True)
class VMTool:
    """A tool's definition; `as_dict` is the form of OpenAI Chat Completions."""

    function: ToolFunction
    type: Literal["function"] = "function"

    def as_dict(self) -> dict[str, Any]:
        return {"type": self.type, "function": self.function.as_dict()}


# Definitions are sent with every request and paid for each time: a schema keeps what a model cannot do without, and
# `parse_tool_call` says the rest to the one that got it wrong.
PAGE_FAULT_TOOL: Final = VMTool(
    ToolFunction(
        name="page_fault",
        description="Load a page of this conversation's memory.",
        parameters=ToolParameters(
            properties={
                "page_id": ToolProperty("string", "A page's id, as listed or found."),
                "target_level": ToolProperty(
                    "integer",
                    "0 word for word, 1 reduced, 2 key points, 3 topics.",
                    default=DEFAULT_TARGET_LEVEL,
                ),
                "offset": ToolProperty("integer", "Read a long page on from this character."),
            },
            required=("page_id",),
        ),
    )
)

SEARCH_PAGES_TOOL: Final = VMTool(
    ToolFunction(
        name="search_pages",
        description="Find pages of this conversation's memory by their content.",
        parameters=ToolParameters(
            properties={
                "query": ToolProperty("string", "Words, names, numbers to look for."),
                "modality": ToolProperty("string", "Only this kind.", enum=tuple(Modality)),
                "limit": ToolProperty("integer", f"1 to {SEARCH_LIMIT_MAX}.", default=DEFAULT_SEARCH_LIMIT),
            },
            required=("query",),
        ),
    )
)


class ToolFormat(StrEnum):
    """The form of a tool's definition: of OpenAI's Chat Completions, Anthropic's Messages, Gemini's generateContent."""

    FUNCTION = "function"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


def formatted(functions: Sequence[Mapping[str, Any]], tool_format: ToolFormat) -> list[dict[str, Any]]:
    """Definitions in the form of Chat Completions, as `as_dict` makes them, in another form."""
    declared = [tool["function"] for tool in functions]
    match tool_format:
        case ToolFormat.FUNCTION:
            return [dict(tool) for tool in functions]
        case ToolFormat.ANTHROPIC:
            return [
                {"name": one["name"], "description": one["description"], "input_schema": one["parameters"]}
                for one in declared
            ]
        case ToolFormat.GEMINI:
            return [{"functionDeclarations": declared}] if declared else []


def get_vm_tools() -> list[VMTool]:
    return [PAGE_FAULT_TOOL, SEARCH_PAGES_TOOL]


def get_vm_tools_as_dicts() -> list[dict[str, Any]]:
    return [tool.as_dict() for tool in get_vm_tools()]


@dataclass(frozen=True, slots=True)
class PageFaultCall:
    """`offset` asks for the piece of the page that begins at this character, instead of for the page in the prompt."""

    page_id: PageId
    target_level: CompressionLevel = DEFAULT_TARGET_LEVEL
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class SearchPagesCall:
    query: str
    modality: Modality | None = None
    limit: int = DEFAULT_SEARCH_LIMIT


@dataclass(frozen=True, slots=True)
class ToolCallProblem:
    """Why a call was not carried out. `error` is for programs, `message` tells the model what would be right."""

    error: str
    message: str
    page_id: str | None = None

    @classmethod
    def from_refusal(cls, refusal: PagekeeperError, page_id: str | None = None) -> "ToolCallProblem":
        """A refusal, in the form for the model."""
        return cls(refusal.reason.lower(), refusal.message, page_id)


@dataclass(frozen=True, slots=True)
class FaultEffects:
    """Effects of bringing the page in. `tokens_est` counts the page's line in the prompt."""

    promoted_to_working_set: bool = False
    tokens_est: int = 0
    evictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FaultedPage:
    """A page as a tool result shows it: `text` is its content at `level`, `media` describes a medium at level 0."""

    page_id: str
    modality: Modality
    level: int
    tier: StorageTier
    text: str
    media: MediaDescription | None = None
    meta: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """One result of a search; `relevance` from 0 to 1."""

    page_id: str
    modality: Modality
    tier: StorageTier
    levels: tuple[int, ...]
    hint: str
    relevance: float


def parse_tool_call(
    name: str, arguments_json: str, known_page_ids: Container[str] = ()
) -> PageFaultCall | SearchPagesCall | ToolCallProblem:
    """Read a call as a model wrote it. Fields that no schema names are ignored; null means not given.

    `known_page_ids` may hold ids that a stack would not take: a program's own, in its own process.
    """
    if name not in _PARSERS:
        known = " and ".join(_PARSERS)
        return ToolCallProblem("unknown_tool", f"There is no tool {_shown(name)}; there are {known}.")
    try:
        arguments = _read_arguments(arguments_json)
        return _PARSERS[name](arguments, known_page_ids)
    except InvalidField as wrong:
        return ToolCallProblem("invalid_arguments", f"{wrong.message}.")


def meta_of(
    source_tier: StorageTier, *, turn: int, mime_type: str, speaker: str, tool_call_id: str, said_unix_ms: int
) -> dict[str, str | int | float]:
    """Facts of a page beside its content, for a tool result: the speaker, call and time where they are known."""
    meta: dict[str, str | int | float] = {"source_tier": source_tier.value, "turn": turn, "mime_type": mime_type}
    if speaker:
        meta["speaker"] = speaker
    if tool_call_id:
        meta["tool_call_id"] = tool_call_id
    if said_unix_ms:
        meta["said"] = said_at(said_unix_ms)
    return meta


def render_tool_result(page: FaultedPage, effects: FaultEffects) -> str:
    """The envelope that answers a page_fault."""
    fields = {
        "page_id": page.page_id,
        "modality": page.modality.value,
        "level": page.level,
        "tier": page.tier.value,
    }
    changed = {
        "promoted_to_working_set": effects.promoted_to_working_set,
        "tokens_est": effects.tokens_est,
        "evictions": list(effects.evictions),
    }
    content, meta = _content(page), _json(dict(page.meta))
    return f'{{"page":{_json(fields)[:-1]},"content":{content},"meta":{meta}}},"effects":{_json(changed)}}}'


def render_search_result(results: Sequence[FoundPage], total_available: int) -> str:
    """The envelope that answers a search_pages; `total_available` is how many pages were searched."""
    found = [
        {
            "page_id": page.page_id,
            "modality": page.modality.value,
            "tier": page.tier.value,
            "levels": list(page.levels),
            "hint": page.hint,
            "relevance": round(page.relevance, 3),
        }
        for page in results
    ]
    return _json({"results": found, "total_available": total_available})


def render_problem(problem: ToolCallProblem) -> str:
    """The envelope that answers a call which was not carried out."""
    fields = {"error": problem.error, "message": problem.message}
    return _json(fields if problem.page_id is None else {**fields, "page_id": problem.page_id})


def _read_arguments(arguments_json: str) -> dict[str, Any]:
    if len(arguments_json) > ARGUMENTS_CHARS_MAX:
        raise InvalidField("arguments", f"must be at most {ARGUMENTS_CHARS_MAX:,} characters of JSON")
    try:
        arguments = read_json(whole_text(arguments_json))
    except ValueError as problem:
        raise InvalidField("arguments", f"must be a JSON object, not {_shown(arguments_json)}: {problem}") from None
    if not isinstance(arguments, dict):
        raise InvalidField("arguments", f"must be a JSON object, not {_shown(arguments)}")
    return {key: value for key, value in arguments.items() if value is not None}


def _page_fault_call(arguments: Mapping[str, Any], known_page_ids: Container[str]) -> PageFaultCall:
    page_id = _text(arguments, "page_id")
    if page_id not in known_page_ids:
        check_id("page_id", page_id)
    offset = _integer(arguments, "offset", 0, 0, OFFSET_MAX) if "offset" in arguments else None
    usual_level = DEFAULT_TARGET_LEVEL if offset is None else CompressionLevel.FULL
    level = _integer(arguments, "target_level", usual_level, min(CompressionLevel), max(CompressionLevel))
    return PageFaultCall(PageId(page_id), CompressionLevel(level), offset)


def _search_pages_call(arguments: Mapping[str, Any], _page_ids: Container[str]) -> SearchPagesCall:
    query = _text(arguments, "query")
    modality = arguments.get("modality")
    if modality is not None and modality not in tuple(Modality):
        raise InvalidField("modality", f"must be one of {', '.join(Modality)}, not {_shown(modality)}")
    limit = _integer(arguments, "limit", DEFAULT_SEARCH_LIMIT, 1, SEARCH_LIMIT_MAX)
    return SearchPagesCall(query, None if modality is None else Modality(modality), limit)


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if value is None:
        raise InvalidField(name, "is missing")
    if not isinstance(value, str) or not value.strip():
        raise InvalidField(name, f"must be a text that is not empty, not {_shown(value)}")
    return value


def _integer(arguments: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = arguments.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidField(name, f"must be a whole number from {least} to {most}, not {_shown(value)}")
    return value


_PARSERS: Final[Mapping[str, Callable[[Mapping[str, Any], Container[str]], PageFaultCall | SearchPagesCall]]] = {
    "page_fault": _page_fault_call,
    "search_pages": _search_pages_call,
}


def _shown(value: object) -> str:
    """Return the model's text, recognisable and short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = whole_text(re.sub(r"\s+", " ", str(value)))
    return f"'{text}'" if len(text) <= SHOWN_CHARS_MAX else f"'{text[:SHOWN_CHARS_MAX]}…'"


def _content(page: FaultedPage) -> str:
    """The page's content in the shape of its modality, as JSON; in the place of an encoded payload a note of it."""
    page = replace(page, text=elided(page.text))
    data = compact_json(page.text) if page.modality is Modality.STRUCTURED else None
    if data is not None:
        return f'{{"data":{data}}}'
    return _json(media_content(page.modality, page.media) if page.media is not None else _text_content(page))


def _text_content(page: FaultedPage) -> dict[str, Any]:
    match page.modality:
        case Modality.IMAGE:
            return {"caption": page.text}
        case Modality.AUDIO | Modality.VIDEO:
            return {"transcript": page.text}
        case Modality.TEXT | Modality.STRUCTURED:
            return {"text": page.text}


def media_content(modality: Modality, media: MediaDescription) -> dict[str, Any]:
    """A medium at its full level, as a tool result describes it."""
    seen = {"caption": media.caption, "dimensions": [media.width, media.height]}
    heard = {"transcript": media.transcript, "duration_seconds": media.duration_seconds}
    match modality:
        case Modality.IMAGE:
            return seen
        case Modality.AUDIO:
            return heard
        case Modality.VIDEO:
            return {**seen, **heard, "scenes": list(media.scenes)}
        case Modality.TEXT | Modality.STRUCTURED:
            raise ValueError(f"{modality.value} is not a medium")


def _json(value: object) -> str:
    return guard_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
