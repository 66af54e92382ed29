"""Pieces of a page, for a page that is too large for a prompt: a model reads it from any character on, to its end.

A piece is read, not brought in: the working set stays as it is, and the turn's faults are not counted. Positions count
the characters of what a model is shown of the page, in which a note stands in the place of an encoded payload.

Invariant: the pieces that begin at 0 and at each `next_offset` are, one behind the other, the whole text.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.errors import ContentTooLarge, FaultTokensExceeded, InvalidField, LevelUnavailable, PagekeeperError
from pagekeeper.core.escape import guard_json
from pagekeeper.core.events import SessionConfig
from pagekeeper.core.payloads import elided
from pagekeeper.core.tools import FaultedPage, media_content

PIECE_TOKENS_MAX: Final = 2_048
PIECE_SHARE: Final = 4
"""A piece takes at most this fraction of a small prompt."""
CHARS_PER_TOKEN: Final = 4
"""Of English; a piece never has more characters than this for each token that it may take."""
FITTING_SHARE: Final = 0.75
"""The search for the longest piece ends when this share of the room is used."""
ATTEMPTS_MAX: Final = 16
BREAK_SHARE: Final = 0.75
"""A piece ends behind a line, or else a word, that ends in the rest of it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The characters from `offset` to `end` of a text that has `total_chars` of them."""

    text: str
    offset: int
    total_chars: int

    @property
    def end(self) -> int:
        return self.offset + len(self.text)

    @property
    def next_offset(self) -> int:
        """Where the next piece begins; 0 behind the last one."""
        return self.end if self.end < self.total_chars else 0


def piece_tokens_max(config: SessionConfig) -> int:
    """Tokens that a piece may take of a prompt of the session."""
    return min(PIECE_TOKENS_MAX, config.max_l0_tokens // PIECE_SHARE)


def is_read_in_pieces(refusal: PagekeeperError, size_tokens: int, config: SessionConfig) -> bool:
    """Whether a fault was refused because the page, which takes `size_tokens`, will never fit."""
    if isinstance(refusal, FaultTokensExceeded):
        return size_tokens > config.max_fault_tokens_per_turn
    return isinstance(refusal, LevelUnavailable | ContentTooLarge)


def readable_text(page: FaultedPage) -> str:
    """The text that pieces of the page are cut from."""
    if page.media is not None:
        return json.dumps(media_content(page.modality, page.media), ensure_ascii=False)
    return elided(page.text)


def piece_at(text: str, offset: int, tokens_max: int, count: Callable[[str], int]) -> Piece:
    """The piece of `text` that begins at `offset` and takes at most `tokens_max` tokens in an answer; one character at
    least.

    Raises InvalidField when the text ends before `offset`.
    """
    if offset > len(text):
        raise InvalidField("offset", f"must be at most the number of characters of the page, {len(text):,}")
    low, high = min(1, len(text) - offset), len(text) - offset
    chars = high = min(high, CHARS_PER_TOKEN * tokens_max)
    for _ in range(ATTEMPTS_MAX):
        if low >= chars:
            break
        tokens = count(_json(text[offset : offset + chars]))
        if tokens > tokens_max:
            high = chars - 1
        else:
            low = chars
            if tokens >= FITTING_SHARE * tokens_max or low == high:
                break
        chars = min(max(chars * tokens_max // max(1, tokens), low + 1), high)
    part = text[offset : offset + low]
    if offset + low < len(text):
        part = _to_a_break(part)
    return Piece(part, offset, len(text))


def render_piece(page: FaultedPage, piece: Piece) -> str:
    """The envelope that answers a page_fault with a piece of the page, and says how to read on."""
    where: dict[str, object] = {"offset": piece.offset, "total_chars": piece.total_chars}
    if piece.next_offset:
        where["next_offset"] = piece.next_offset
        where["note"] = (
            f"The page goes on: call page_fault with page_id {page.page_id}, target_level {page.level} and "
            f"offset {piece.next_offset}."
        )
    shown = {
        "page_id": page.page_id,
        "modality": page.modality.value,
        "level": page.level,
        "tier": page.tier.value,
        "content": {"text": piece.text, **where},
        "meta": dict(page.meta),
    }
    effects = {"promoted_to_working_set": False, "tokens_est": 0, "evictions": []}
    return _json({"page": shown, "effects": effects})


def _to_a_break(part: str) -> str:
    least = int(len(part) * BREAK_SHARE)
    for behind in ("\n", " "):
        end = part.rfind(behind, least) + 1
        if end:
            return part[:end]
    return part


def _json(value: object) -> str:
    return guard_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
