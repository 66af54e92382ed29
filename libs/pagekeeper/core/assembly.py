"""A whole request to a chat model, made of parts so that it fits a budget.

Two layouts. CLASSIC is the guide's: rules, manifest and context in the developer message, then the user's words.
CACHE_STABLE puts everything that changes every turn behind the context:

    developer   the application's instructions, VM:RULES, VM:MANIFEST_JSON, VM:CONTEXT in the order it was said
    user        VM:FAULTED with the pages faulted in or recalled, VM:STATUS, the user's words

so that a turn that only appends pages leaves the earlier prompt a prefix of the new one, up to the end of the old
context: the manifest there lists what is not in the context, which changes when pages are evicted, and then the context
does too. In both layouts pages that were faulted in stand in the user message: content that was asked for by id never
speaks with the developer's authority.

Invariant: the total is the sum of the parts, is what the tokenizer says of the final strings and the frames around
them, and never exceeds the budget less the reserve. It holds because every piece of a message but its last ends in a
line break, and what follows is visible and no slash: the tokenizers always split there (see `packing`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from pagekeeper.core import prompt
from pagekeeper.core.effects import Pressure
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import guard_tags
from pagekeeper.core.events import PromptLayout, VMMode
from pagekeeper.core.manifest import (
    Manifest,
    ManifestLine,
    ManifestPolicies,
    RenderedManifest,
    WorkingSetEntry,
    floor_tokens,
    render_manifest,
    status_json,
    working_set_line,
)
from pagekeeper.core.packing import ContextPage, PackedContext, PackedLine, lowest_tokens, pack, pack_by_utility
from pagekeeper.core.pages import Modality

DEVELOPER = "developer"
USER = "user"


@dataclass(frozen=True, slots=True)
class PromptPage:
    """A resident page. `entry` is its line among the available pages, for when it finds no room."""

    page: ContextPage
    modality: Modality
    importance: float
    entry: ManifestLine


@dataclass(frozen=True, slots=True)
class ChatParts:
    """The parts of a prompt.

    `context` is in the order in which it was said, `faulted` are the pages that came by a fault, `eviction_order`
    starts with the page that is missed least, `available` (lines of `layout`) with the most relevant page that is not
    resident.
    `recalled` are pages that the user's words call for and that are not resident, in the conversation's order;
    `utility` says how relevant a page is, 0 to 1, by id, residents too.
    """

    session_id: str
    mode: VMMode
    layout: PromptLayout
    system_prompt: str
    context: Sequence[PromptPage]
    faulted: Sequence[PromptPage]
    eviction_order: Sequence[str]
    available: Sequence[ManifestLine]
    policies: ManifestPolicies
    pressure: Pressure
    user_input: str
    tools: Sequence[Mapping[str, Any]] = ()
    recalled: Sequence[PromptPage] = ()
    utility: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """All in tokens. The reserve stays free for the answer; frames are what a provider puts around messages.

    `recall_tokens_max` bounds what recalled pages take beside residents that all have their place.
    """

    budget_tokens: int
    reserve_tokens: int
    manifest_tokens_max: int
    tools_tokens: int
    recall_tokens_max: int = 0
    message_frame_tokens: int = 3
    reply_frame_tokens: int = 3


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`utf8` is the content as it is sent, `digest` its SHA-256, `pieces` what it was joined of."""

    role: str
    content: str
    utf8: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    pieces: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Where the tokens go. `rules` has the application's instructions too, `input` the tag right before the words."""

    rules: int
    context: int
    manifest: int
    input: int
    tools: int
    framing: int

    @property
    def total(self) -> int:
        return self.rules + self.context + self.manifest + self.input + self.tools + self.framing


@dataclass(frozen=True, slots=True)
class AssembledChat:
    """A request, ready to send. `digest` is made of the messages' and the tools': equal exactly when both are.

    `omitted` pages are nowhere in the prompt, `lowered` ones below the level they were given at, and `listed` are the
    pages that the manifest offers.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[Mapping[str, Any], ...]
    tokens: PromptTokens
    digest: bytes
    included: tuple[PackedLine, ...]
    faulted: tuple[PackedLine, ...]
    recalled: tuple[PackedLine, ...]
    lowered: tuple[str, ...]
    omitted: tuple[str, ...]
    listed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Everything in the messages but pages and manifest; `closing` ends with the user's words."""

    instructions: str
    around_context: tuple[str, str]
    around_faulted: tuple[str, str]
    around_manifest: tuple[str, str]
    closing: str


@dataclass(frozen=True, slots=True)
class _Shares:
    """The division of the room among the parts of a prompt."""

    faulted: PackedContext
    recalled: PackedContext
    context: PackedContext
    manifest: RenderedManifest


def assemble_chat(
    parts: ChatParts, limits: ChatLimits, count: Callable[[str], int], earlier: ChatMessage | None = None
) -> AssembledChat:
    """Put a request together that fits.

    Mandatory pages are served first, then pages faulted in, then the context; the manifest gets what is left, of which
    `manifest_tokens_max` at most are kept back for it. `count` is asked for the same short texts at every call: give it
    a memory. The developer's message of an `earlier` request is used again when this one's says the same: a long one
    is slow to join, encode and hash.

    Raises BudgetTooSmall when instructions, tools, input, an empty manifest and the mandatory pages alone do not fit.
    """
    try:
        return _assembled(parts, limits, count, earlier)
    except BudgetTooSmall:
        if not parts.recalled:
            raise
        # Where there is hardly room for what must be, not even the tags around recalled pages may be in its way.
        return _assembled(replace(parts, recalled=()), limits, count, earlier)


def _assembled(
    parts: ChatParts, limits: ChatLimits, count: Callable[[str], int], earlier: ChatMessage | None
) -> AssembledChat:
    frame = _frame(parts)
    pages = [*parts.context, *parts.faulted, *parts.recalled]
    widest = _manifest(parts, [page.page.line for page in pages], [*parts.available, *(p.entry for p in pages)], count)
    empty_manifest_tokens = floor_tokens(widest, count)
    fixed = PromptTokens(
        rules=count(frame.instructions),
        context=_tokens(frame.around_context + frame.around_faulted, count),
        manifest=_tokens(frame.around_manifest, count),
        input=count(frame.closing),
        tools=limits.tools_tokens,
        framing=_framing_tokens(limits, count),
    )
    room_tokens = limits.budget_tokens - limits.reserve_tokens - fixed.total - empty_manifest_tokens
    shares = _share(parts, limits, room_tokens, empty_manifest_tokens, count)
    messages = _messages(frame, shares, earlier)
    shown = {line.page_id for line in (*shares.context.included, *shares.faulted.included)}
    return AssembledChat(
        messages=messages,
        tools=tuple(parts.tools),
        tokens=replace(
            fixed,
            context=fixed.context + shares.context.tokens + shares.faulted.tokens + shares.recalled.tokens,
            manifest=fixed.manifest + shares.manifest.tokens,
        ),
        digest=_digest(messages, parts.tools),
        included=shares.context.included,
        faulted=shares.faulted.included,
        recalled=shares.recalled.included,
        lowered=(*shares.context.lowered, *shares.faulted.lowered),
        omitted=tuple(i for i in (*shares.context.omitted, *shares.faulted.omitted) if i not in shown),
        listed=shares.manifest.listed,
    )


def _share(
    parts: ChatParts, limits: ChatLimits, room_tokens: int, empty_manifest_tokens: int, count: Callable[[str], int]
) -> _Shares:
    """Divide `room_tokens` between pages and the manifest's entries. Raises BudgetTooSmall."""
    context, faulted = [page.page for page in parts.context], [page.page for page in parts.faulted]
    context_floor, faulted_floor = _mandatory_tokens(context), _mandatory_tokens(faulted)
    if context_floor + faulted_floor > room_tokens:
        missing_tokens = context_floor + faulted_floor - room_tokens
        raise BudgetTooSmall(limits.budget_tokens, limits.budget_tokens + missing_tokens)
    faulted_pack = pack(faulted, budget_tokens=room_tokens - context_floor)
    room_tokens -= faulted_pack.tokens
    entries_max = max(0, limits.manifest_tokens_max - empty_manifest_tokens)
    kept_back = min(_entries_tokens(parts, room_tokens, entries_max, count), room_tokens - context_floor)
    recalled = [page.page for page in parts.recalled]
    if parts.utility and sum(page.line.tokens for page in context) > room_tokens:
        # Not all that is resident fits, so what is shown is what the words call for, wherever it is; pages say more
        # than their entries.
        kept_back = 0
        context_pack, recalled_pack = pack_by_utility(
            (context, recalled), budget_tokens=room_tokens, utility=_utility(parts), eviction_order=parts.eviction_order
        )
        room_tokens -= context_pack.tokens
    else:
        context_pack = pack(context, budget_tokens=room_tokens - kept_back, eviction_order=parts.eviction_order)
        room_tokens -= context_pack.tokens
        recalled_max = min(limits.recall_tokens_max, max(0, room_tokens - kept_back))
        (recalled_pack,) = pack_by_utility((recalled,), budget_tokens=recalled_max, utility=_utility(parts))
    room_tokens -= recalled_pack.tokens
    shown = {line.page_id: line for line in (*faulted_pack.included, *recalled_pack.included, *context_pack.included)}
    left_out = [page.entry for page in (*parts.context, *parts.faulted) if page.page.line.page_id not in shown]
    available = parts.available
    if parts.layout is PromptLayout.CLASSIC:  # the other one does not change for what is shown in this prompt alone
        available = [line for line in available if line.page_id not in shown]
    rendered = render_manifest(
        _manifest(parts, tuple(shown.values()), [*left_out, *available], count),
        tokens_max=empty_manifest_tokens + min(room_tokens, entries_max),
        count=count,
    )
    return _Shares(faulted_pack, recalled_pack, context_pack, rendered)


def _utility(parts: ChatParts) -> dict[str, float]:
    """By page: how relevant it is, and up to three times that by how important it was said to be."""
    pages = (*parts.context, *parts.recalled)
    return {
        page.page.line.page_id: (0.5 + page.importance) * relevance
        for page in pages
        if (relevance := parts.utility.get(page.page.line.page_id, 0.0)) > 0.0
    }


def _mandatory_tokens(pages: Sequence[ContextPage]) -> int:
    return sum(lowest_tokens(page) for page in pages if page.mandatory)


def _entries_tokens(parts: ChatParts, room_tokens: int, tokens_max: int, count: Callable[[str], int]) -> int:
    """Tokens of the manifest's entries, up to the bound that matters: pages that will not fit become entries too."""
    listed = list(parts.available)
    if parts.layout is PromptLayout.CLASSIC:
        listed += _working_set(parts, [page.page.line for page in parts.context], count)
    wanted = _tokens_up_to(listed, tokens_max)
    if wanted + sum([page.page.line.tokens for page in parts.context]) <= room_tokens:
        return wanted
    return _tokens_up_to([*listed, *(page.entry for page in parts.context)], tokens_max)


def _tokens_up_to(lines: Sequence[ManifestLine], tokens_max: int) -> int:
    tokens = 0
    for line in lines:
        tokens += line.tokens
        if tokens >= tokens_max:
            return tokens_max
    return tokens


def _manifest(
    parts: ChatParts, shown: Sequence[PackedLine], available: Sequence[ManifestLine], count: Callable[[str], int]
) -> Manifest:
    return Manifest(
        session_id=parts.session_id,
        layout=parts.layout,
        policies=parts.policies,
        pressure=parts.pressure,
        working_set=_working_set(parts, shown, count) if parts.layout is PromptLayout.CLASSIC else (),
        available_pages=available,
    )


def _working_set(parts: ChatParts, shown: Sequence[PackedLine], count: Callable[[str], int]) -> list[ManifestLine]:
    pages = {page.page.line.page_id: page for page in (*parts.context, *parts.faulted, *parts.recalled)}
    return [
        working_set_line(
            WorkingSetEntry(
                line.page_id, pages[line.page_id].modality, line.level, line.tokens, pages[line.page_id].importance
            ),
            count,
        )
        for line in shown
    ]


def _frame(parts: ChatParts) -> _Frame:
    """The section of pages faulted in is there exactly when such pages were given."""
    stable = parts.layout is PromptLayout.CACHE_STABLE
    faulted = bool(parts.faulted or parts.recalled)
    status = f"{prompt.STATUS_OPENS}{status_json(parts.policies, parts.pressure)}{prompt.STATUS_CLOSES}"
    before_words = status if stable else prompt.FAULTED_CLOSES if faulted else ""
    faulted_closes = prompt.FAULTED_CLOSES if stable else ""
    return _Frame(
        instructions=prompt.instructions(parts.mode, parts.system_prompt),
        around_context=(prompt.CONTEXT_OPENS, prompt.CONTEXT_CLOSES),
        around_faulted=(prompt.FAULTED_OPENS, faulted_closes) if faulted else ("", ""),
        around_manifest=(prompt.MANIFEST_OPENS, prompt.MANIFEST_CLOSES),
        closing=before_words + guard_tags(parts.user_input),
    )


def _messages(frame: _Frame, shares: _Shares, earlier: ChatMessage | None) -> tuple[ChatMessage, ChatMessage]:
    """Each joined once: a long prompt is slow to copy, because every copy is new memory."""
    context = _framed(frame.around_context, [line.text for line in shares.context.included])
    faulted = [line.text for line in (*shares.faulted.included, *shares.recalled.included)]
    manifest = _framed(frame.around_manifest, [shares.manifest.text])
    said = (frame.instructions, *manifest, *context)
    again = earlier is not None and (earlier.role, earlier.pieces) == (DEVELOPER, said)
    return (
        earlier if earlier is not None and again else _message(DEVELOPER, said),
        _message(USER, (*_framed(frame.around_faulted, faulted), frame.closing)),
    )


def _message(role: str, pieces: tuple[str, ...]) -> ChatMessage:
    content = "".join(pieces)
    utf8 = content.encode()
    return ChatMessage(role, content, utf8, sha256(utf8).digest(), pieces)


def _framed(around: tuple[str, str], pieces: Sequence[str]) -> list[str]:
    return [around[0], *pieces, around[1]]


def _tokens(pieces: Sequence[str], count: Callable[[str], int]) -> int:
    return sum([count(piece) for piece in pieces])


def _framing_tokens(limits: ChatLimits, count: Callable[[str], int]) -> int:
    return 2 * limits.message_frame_tokens + count(DEVELOPER) + count(USER) + limits.reply_frame_tokens


def _digest(messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]]) -> bytes:
    """SHA-256 over roles, contents' digests and the tools as compact sorted JSON, each after its length in 8 bytes."""
    hashed = sha256()
    canonical_tools = json.dumps(tools, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    said = [part for message in messages for part in (message.role.encode(), message.digest)]
    for encoded in (*said, canonical_tools.encode()):
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.digest()
