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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from pagekeeper.core import prompt
from pagekeeper.core.effects import Pressure
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import guard_words
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
from pagekeeper.core.packing import PackedContext, PackedLine, pack_by_utility
from pagekeeper.core.prompt_section import PromptPage, PromptSection

DEVELOPER = "developer"
USER = "user"


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
    context: PromptSection
    faulted: PromptSection
    eviction_order: Sequence[str]
    available: Sequence[ManifestLine]
    policies: ManifestPolicies
    pressure: Pressure
    user_input: str
    tools: Sequence[Mapping[str, Any]] = ()
    recalled: PromptSection = field(default_factory=PromptSection)
    utility: Mapping[str, float] = field(default_factory=dict)
    instructions_role: str = DEVELOPER
    """The role of the message of instructions: `developer` for OpenAI, `system` for all others."""


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


@dataclass(frozen=True)
class ChatMessage:
    """A message, joined of `pieces`. A long one is slow to encode and to hash, and not everybody asks for that."""

    role: str
    pieces: tuple[str, ...] = field(repr=False)

    @cached_property
    def content(self) -> str:
        return "".join(self.pieces)

    @cached_property
    def utf8(self) -> bytes:
        """The content as it is sent."""
        return self.content.encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of `utf8`."""
        return sha256(self.utf8).digest()


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


@dataclass(frozen=True)
class AssembledChat:
    """A request, ready to send.

    `omitted` pages are nowhere in the prompt, `lowered` ones below the level they were given at, and `listed` are the
    pages that the manifest offers.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[Mapping[str, Any], ...]
    tokens: PromptTokens
    included: tuple[PackedLine, ...]
    faulted: tuple[PackedLine, ...]
    recalled: tuple[PackedLine, ...]
    lowered: tuple[str, ...]
    omitted: tuple[str, ...]
    listed: tuple[str, ...]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over roles, contents' digests and the tools as compact sorted JSON, each after its length in 8 bytes.

        Equal exactly when messages and tools are.
        """
        return digest_of(self.messages, canonical_json(self.tools))


def digest_of(messages: Iterable[ChatMessage], canonical_tools: str) -> bytes:
    """The digest of a request with these messages and tools: see `AssembledChat.digest`."""
    hashed = sha256()
    said = [part for message in messages for part in (message.role.encode(), message.digest)]
    for encoded in (*said, canonical_tools.encode()):
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.digest()


def canonical_json(value: object) -> str:
    """The JSON text that equal values have alike: compact, with sorted keys."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Everything in the messages but pages and manifest; `closing` ends with the user's words."""

    instructions_role: str
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
        return _assembled(replace(parts, recalled=PromptSection()), limits, count, earlier)


def _assembled(
    parts: ChatParts, limits: ChatLimits, count: Callable[[str], int], earlier: ChatMessage | None
) -> AssembledChat:
    frame = _frame(parts)
    pages_total = len(parts.context) + len(parts.faulted) + len(parts.recalled)
    narrowest = _manifest(parts, (), parts.available, count)
    empty_manifest_tokens = floor_tokens(narrowest, count, more_entries=pages_total)
    fixed = PromptTokens(
        rules=count(frame.instructions),
        context=_tokens(frame.around_context + frame.around_faulted, count),
        manifest=_tokens(frame.around_manifest, count),
        input=count(frame.closing),
        tools=limits.tools_tokens,
        framing=_framing_tokens(limits, parts.instructions_role, count),
    )
    room_tokens = limits.budget_tokens - limits.reserve_tokens - fixed.total - empty_manifest_tokens
    shares = _share(parts, limits, room_tokens, empty_manifest_tokens, count)
    messages = _messages(frame, shares, earlier)
    return AssembledChat(
        messages=messages,
        tools=tuple(parts.tools),
        tokens=replace(
            fixed,
            context=fixed.context + shares.context.tokens + shares.faulted.tokens + shares.recalled.tokens,
            manifest=fixed.manifest + shares.manifest.tokens,
        ),
        included=shares.context.included,
        faulted=shares.faulted.included,
        recalled=shares.recalled.included,
        lowered=(*shares.context.lowered, *shares.faulted.lowered),
        omitted=_nowhere(shares.context, shares.faulted),
        listed=shares.manifest.listed,
    )


def _share(
    parts: ChatParts, limits: ChatLimits, room_tokens: int, empty_manifest_tokens: int, count: Callable[[str], int]
) -> _Shares:
    """Divide `room_tokens` between pages and the manifest's entries. Raises BudgetTooSmall."""
    context, faulted, recalled = parts.context, parts.faulted, parts.recalled
    missing_tokens = context.floor_tokens + faulted.floor_tokens - room_tokens
    if missing_tokens > 0:
        raise BudgetTooSmall(limits.budget_tokens, limits.budget_tokens + missing_tokens)
    faulted_pack = faulted.packed(room_tokens - context.floor_tokens)
    room_tokens -= faulted_pack.tokens
    entries_max = max(0, limits.manifest_tokens_max - empty_manifest_tokens)
    kept_back = min(_entries_tokens(parts, room_tokens, entries_max, count), room_tokens - context.floor_tokens)
    if parts.utility and context.tokens > room_tokens:
        # Not all that is resident fits, so what is shown is what the words call for, wherever it is; pages say more
        # than their entries.
        kept_back = 0
        context_pack, recalled_pack = pack_by_utility(
            ([page.page for page in context], [page.page for page in recalled]),
            budget_tokens=room_tokens,
            utility=_utility(parts, (*context, *recalled)),
            eviction_order=parts.eviction_order,
        )
        room_tokens -= context_pack.tokens
    else:
        context_pack = context.packed(room_tokens - kept_back, parts.eviction_order)
        room_tokens -= context_pack.tokens
        recalled_max = min(limits.recall_tokens_max, max(0, room_tokens - kept_back))
        (recalled_pack,) = pack_by_utility(
            ([page.page for page in recalled],), budget_tokens=recalled_max, utility=_utility(parts, recalled)
        )
    room_tokens -= recalled_pack.tokens
    left_out = frozenset(_nowhere(context_pack, faulted_pack, recalled_pack))
    listed = [page.entry for page in (*context, *faulted) if page.page.line.page_id in left_out] if left_out else []
    available = parts.available
    shown: dict[str, PackedLine] = {}
    if parts.layout is PromptLayout.CLASSIC:  # the other one does not change for what is shown in this prompt alone
        packs = (faulted_pack, recalled_pack, context_pack)
        shown = {line.page_id: line for pack in packs for line in pack.included}
        available = [line for line in available if line.page_id not in shown]
    rendered = render_manifest(
        _manifest(parts, tuple(shown.values()), [*listed, *available], count),
        tokens_max=empty_manifest_tokens + min(room_tokens, entries_max),
        count=count,
    )
    return _Shares(faulted_pack, recalled_pack, context_pack, rendered)


def _nowhere(*packs: PackedContext) -> tuple[str, ...]:
    """The pages that were left out of each of the packs that they were given to."""
    omitted = [page_id for pack in packs for page_id in pack.omitted]
    if not omitted:
        return ()
    shown = {line.page_id for pack in packs for line in pack.included}
    return tuple(page_id for page_id in omitted if page_id not in shown)


def _utility(parts: ChatParts, pages: Iterable[PromptPage]) -> dict[str, float]:
    """By page: how relevant it is, and up to three times that by how important it was said to be."""
    return {
        page.page.line.page_id: (0.5 + page.importance) * relevance
        for page in pages
        if (relevance := parts.utility.get(page.page.line.page_id, 0.0)) > 0.0
    }


def _entries_tokens(parts: ChatParts, room_tokens: int, tokens_max: int, count: Callable[[str], int]) -> int:
    """Tokens of the manifest's entries, up to the bound that matters: pages that will not fit become entries too."""
    listed = list(parts.available)
    if parts.layout is PromptLayout.CLASSIC:
        listed += _working_set(parts, parts.context.lines, count)
    wanted = _tokens_up_to(listed, tokens_max)
    if wanted + parts.context.tokens <= room_tokens:
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
        instructions_role=parts.instructions_role,
        instructions=prompt.instructions(parts.mode, parts.system_prompt),
        around_context=(prompt.CONTEXT_OPENS, prompt.CONTEXT_CLOSES),
        around_faulted=(prompt.FAULTED_OPENS, faulted_closes) if faulted else ("", ""),
        around_manifest=(prompt.MANIFEST_OPENS, prompt.MANIFEST_CLOSES),
        closing=before_words + guard_words(parts.user_input),
    )


def _messages(frame: _Frame, shares: _Shares, earlier: ChatMessage | None) -> tuple[ChatMessage, ChatMessage]:
    """Each joined once: a long prompt is slow to copy, because every copy is new memory."""
    context = _framed(frame.around_context, shares.context.texts)
    faulted = _framed(frame.around_faulted, (*shares.faulted.texts, *shares.recalled.texts))
    manifest = _framed(frame.around_manifest, (shares.manifest.text,))
    developer = ChatMessage(frame.instructions_role, (frame.instructions, *manifest, *context))
    again = earlier if earlier == developer else None
    return again or developer, ChatMessage(USER, (*faulted, frame.closing))


def _framed(around: tuple[str, str], pieces: Sequence[str]) -> list[str]:
    return [around[0], *pieces, around[1]]


def _tokens(pieces: Sequence[str], count: Callable[[str], int]) -> int:
    return sum([count(piece) for piece in pieces])


def _framing_tokens(limits: ChatLimits, instructions_role: str, count: Callable[[str], int]) -> int:
    return 2 * limits.message_frame_tokens + count(instructions_role) + count(USER) + limits.reply_frame_tokens
