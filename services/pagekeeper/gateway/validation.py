"""Validation of public requests, before any other code reads them.

The limits of single fields stand in the API, as options of the fields (`pagekeeper.runtime.limits`). Rules that need
more than one field, or the content of a field, stand here.

Raises InvalidField or ContentTooLarge for the first offence, naming the field by its path and what would be right.
What has to be parsed for it is checked apart: structured pages by `check_structured`, tools where they are counted.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.wellformed import read_json
from pagekeeper.runtime import limits
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

MEDIA_MODALITIES: Final = frozenset({page_pb2.MODALITY_IMAGE, page_pb2.MODALITY_AUDIO, page_pb2.MODALITY_VIDEO})
TRUST_MAX_OF_ROLE: Final[Mapping[int, int]] = {
    page_pb2.MESSAGE_ROLE_TOOL: page_pb2.TRUST_CLASS_TOOL,
    page_pb2.MESSAGE_ROLE_ASSISTANT: page_pb2.TRUST_CLASS_MODEL,
    page_pb2.MESSAGE_ROLE_USER: page_pb2.TRUST_CLASS_USER,
    page_pb2.MESSAGE_ROLE_UNSPECIFIED: page_pb2.TRUST_CLASS_USER,
    page_pb2.MESSAGE_ROLE_SYSTEM: page_pb2.TRUST_CLASS_SYSTEM,
}
USAGE_RATIO_MAX: Final = 4
"""How far a provider's count of a prompt may be off ours: no tokenizer of a language model is further off."""


def check(request: Message) -> None:
    """Raises InvalidField or ContentTooLarge for the first thing that is wrong with a public request."""
    limits.check(request)
    special = _SPECIAL.get(request.DESCRIPTOR.name)
    if special is not None:
        special(request)


def _check_append(request: pb.AppendPagesRequest) -> None:
    bytes_at_most = 0
    for index, page in enumerate(request.pages):
        problem = _problem_of(page)
        if problem is not None:
            raise InvalidField(f"pages[{index}].{problem[0]}", problem[1])
        bytes_at_most += limits.UTF8_BYTES_PER_CHAR_MAX * len(page.text) + len(page.data)
    bytes_max = limits.limits_of(request, "pages").max_total_bytes
    if bytes_at_most > bytes_max:
        total_bytes = sum(limits.bytes_of(page.text) + len(page.data) for page in request.pages)
        if total_bytes > bytes_max:
            raise ContentTooLarge("pages", total_bytes, bytes_max)


def _problem_of(page: page_pb2.PageInput) -> tuple[str, str] | None:
    """The first field of a page that is wrong, and what would be right."""
    if page.trust and page.trust > TRUST_MAX_OF_ROLE[page.role]:
        return "trust", "must be at most what the role implies"
    if page.new_version and not page.page_id:
        return "page_id", "must name the page that gets a new version"
    return _problem_of_medium(page) if page.modality in MEDIA_MODALITIES else _problem_of_text(page)


def _problem_of_medium(page: page_pb2.PageInput) -> tuple[str, str] | None:
    if page.WhichOneof("content") == "text":
        return "text", "must be empty for image, audio and video; put the bytes into data"
    if not page.data and not (page.media.caption or page.media.transcript or page.media.scenes):
        return "data", "must hold the medium's bytes, or media must describe it"
    return None


def _problem_of_text(page: page_pb2.PageInput) -> tuple[str, str] | None:
    if page.WhichOneof("content") == "data":
        return "data", "must be empty unless modality is image, audio or video; use text"
    if not page.text and not _is_empty_result(page):
        return "text", "must not be empty, except for a tool's result: an empty text with role TOOL"
    if page.HasField("media"):
        return "media", "must be absent unless modality is image, audio or video"
    return None


async def check_structured(pool: Pool, tenant: str, request: pb.AppendPagesRequest) -> None:
    """Raises InvalidField for the first structured page that is no JSON, and TooManyRequests."""
    texts = {i: page.text for i, page in enumerate(request.pages) if page.modality == page_pb2.MODALITY_STRUCTURED}
    if not texts:
        return
    here = sum(map(len, texts.values())) <= HERE_BYTES_MAX
    wrong = first_that_is_no_json(texts) if here else await pool.run(tenant, first_that_is_no_json, texts)
    if wrong is not None:
        index, problem = wrong
        raise InvalidField(f"pages[{index}].text", f"must be JSON when modality is STRUCTURED: {problem}")


def first_that_is_no_json(texts: Mapping[int, str]) -> tuple[int, str] | None:
    """The key of the first text that is no JSON, and its problem."""
    for index, text in texts.items():
        try:
            read_json(text)
        except ValueError as problem:
            return index, str(problem)
    return None


def _is_empty_result(page: page_pb2.PageInput) -> bool:
    """Whether the page says that a tool answered nothing. A page without any content says nothing."""
    is_text = page.WhichOneof("content") == "text" and page.modality != page_pb2.MODALITY_STRUCTURED
    return is_text and page.role == page_pb2.MESSAGE_ROLE_TOOL


def _check_assemble(request: pb.AssemblePromptRequest) -> None:
    if request.budget_tokens and request.reserve_tokens >= request.budget_tokens:
        raise InvalidField("reserve_tokens", f"must be less than budget_tokens ({request.budget_tokens:,})")


def _check_usage(request: pb.ReportUsageRequest) -> None:
    counted, given = request.counted_tokens, request.input_tokens
    if not counted <= given * USAGE_RATIO_MAX <= counted * USAGE_RATIO_MAX**2:
        low, high = -(-counted // USAGE_RATIO_MAX), counted * USAGE_RATIO_MAX
        raise InvalidField("input_tokens", f"must be {low:,} to {high:,} for that prompt, not {given:,}")


def _check_search(request: pb.SearchPagesRequest) -> None:
    if not request.query.strip():
        raise InvalidField("query", "must have at least one word")
    if request.to_turn and request.to_turn < request.from_turn:
        raise InvalidField("to_turn", f"must not be before from_turn ({request.from_turn})")


_SPECIAL: Final[Mapping[str, Callable[[Any], None]]] = {
    "AppendPagesRequest": _check_append,
    "AssemblePromptRequest": _check_assemble,
    "ReportUsageRequest": _check_usage,
    "SearchPagesRequest": _check_search,
}
