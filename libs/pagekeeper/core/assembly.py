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
from pagekeeper.core.chat_parts import USER, ChatLimits, ChatParts
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.last_words import CUT_SHARE, KEPT_CHARS_MIN, LastWords, ShownWords
from pagekeeper.core.manifest import ManifestLine, floor_tokens, status_json
from pagekeeper.core.packing import PackedLine
from pagekeeper.core.prompt_section import PromptSection
from pagekeeper.core.sharing import Shares, manifest_of, nowhere, share


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
    pages that the manifest offers. `input_chars_missing` counts the characters that are left out of the user's words; a
    page that holds such words is listed.
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
    input_chars_missing: int = 0

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
class _Closing:
    """The user's words at the end of a prompt. When characters of them are missing, `listed` is their page's entry."""

    words: str
    chars_missing: int = 0
    listed: ManifestLine | None = None


def assemble_chat(
    parts: ChatParts, limits: ChatLimits, count: Callable[[str], int], earlier: ChatMessage | None = None
) -> AssembledChat:
    """Put a request together that fits.

    Mandatory pages and the user's words are served first, then pages faulted in, then the context; the manifest gets
    what is left, of which `manifest_tokens_max` at most are kept back for it. Words that do not fit are cut. `count` is
    asked for the same short texts at every call: give it a memory. The developer's message of an `earlier` request is
    used again when this one's says the same: a long one is slow to join, encode and hash.

    Raises BudgetTooSmall when instructions, tools, the shortest cut of the words, an empty manifest and the mandatory
    pages alone do not fit.
    """
    shown = ShownWords(LastWords(parts.user_input, parts.input_attribution, _input_page_id(parts)), parts.mode)
    whole = _Closing(shown.whole())
    refused: BudgetTooSmall | None = None
    if not (shown.can_be_cut and _is_far_too_long(whole.words, limits.budget_tokens, count)):
        # Where there is hardly room for what must be, not even the tags around recalled pages may be in its way.
        for tried in (parts, replace(parts, recalled=PromptSection())) if parts.recalled else (parts,):
            try:
                return _assembled(tried, limits, count, earlier, whole)
            except BudgetTooSmall as small:
                refused = small
    if refused is not None and not shown.can_be_cut:
        raise refused
    parts = replace(parts, recalled=PromptSection())
    return _assembled(parts, limits, count, earlier, _cut(parts, limits, count, shown, refused))


def _input_page_id(parts: ChatParts) -> str:
    return parts.input_entry.page_id if parts.input_entry is not None else ""


def _is_far_too_long(words: str, budget_tokens: int, count: Callable[[str], int]) -> bool:
    """Whether the words take more than twice the budget, as a part of them tells: counting all of them is slow."""
    part = words[: 16 * budget_tokens]
    return len(part) < len(words) and count(part) > 2 * budget_tokens


def _cut(
    parts: ChatParts,
    limits: ChatLimits,
    count: Callable[[str], int],
    shown: ShownWords,
    refused: BudgetTooSmall | None,
) -> _Closing:
    """The words as far as they fit. Raises BudgetTooSmall when not even the shortest cut does.

    `refused` says what it would take to have them whole, if that is known.
    """
    frame = _frame(parts, "")
    fixed, empty_manifest_tokens = _fixed(parts, limits, frame, count)
    listed_tokens = parts.input_entry.tokens if parts.input_entry is not None else 0
    mandatory_tokens = parts.context.floor_tokens + parts.faulted.floor_tokens + listed_tokens
    taken_tokens = fixed.total - fixed.input + empty_manifest_tokens + mandatory_tokens
    room_tokens = limits.budget_tokens - limits.reserve_tokens - taken_tokens

    def tokens(words: str) -> int:
        return count(frame.closing + words)

    least_tokens = tokens(shown.cut(KEPT_CHARS_MIN).text)
    if least_tokens > room_tokens:
        needed = limits.budget_tokens + least_tokens - room_tokens
        raise BudgetTooSmall(limits.budget_tokens, min(needed, refused.needed_tokens if refused else needed))
    words, chars_missing = shown.longest_cut(tokens, max(least_tokens, int(room_tokens * CUT_SHARE)))
    return _Closing(words, chars_missing, parts.input_entry)


def _fixed(
    parts: ChatParts, limits: ChatLimits, frame: _Frame, count: Callable[[str], int]
) -> tuple[PromptTokens, int]:
    """The tokens of everything but pages and entries of the manifest, and those of a manifest without entries."""
    pages_total = len(parts.context) + len(parts.faulted) + len(parts.recalled) + (parts.input_entry is not None)
    narrowest = manifest_of(parts, (), parts.available, count)
    fixed = PromptTokens(
        rules=count(frame.instructions),
        context=_tokens(frame.around_context + frame.around_faulted, count),
        manifest=_tokens(frame.around_manifest, count),
        input=count(frame.closing),
        tools=limits.tools_tokens,
        framing=_framing_tokens(limits, parts.instructions_role, count),
    )
    return fixed, floor_tokens(narrowest, count, more_entries=pages_total)


def _assembled(
    parts: ChatParts,
    limits: ChatLimits,
    count: Callable[[str], int],
    earlier: ChatMessage | None,
    closing: _Closing,
) -> AssembledChat:
    frame = _frame(parts, closing.words)
    fixed, empty_manifest_tokens = _fixed(parts, limits, frame, count)
    room_tokens = limits.budget_tokens - limits.reserve_tokens - fixed.total - empty_manifest_tokens
    shares = share(parts, limits, room_tokens, empty_manifest_tokens, count, closing.listed)
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
        omitted=nowhere(shares.context, shares.faulted),
        listed=shares.manifest.listed,
        input_chars_missing=closing.chars_missing,
    )


def _frame(parts: ChatParts, words: str) -> _Frame:
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
        closing=before_words + words,
    )


def _messages(frame: _Frame, shares: Shares, earlier: ChatMessage | None) -> tuple[ChatMessage, ChatMessage]:
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
