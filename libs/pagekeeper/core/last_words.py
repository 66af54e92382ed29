"""The user's last words: what a prompt ends with, whole or cut.

A prompt is never without the question. The words are whole when the budget has room for them; a message may be larger
than the working set has room for, and is not resident then. Otherwise the middle is left out and a note stands there,
which says how many characters are missing and how the model reads them. Encoded payloads in the words are elided as
those of pages are, so positions in the words are positions in what `elided` answers.

This module never counts tokens: whoever cuts says whether a cut fits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pagekeeper.core.escape import guard_words
from pagekeeper.core.events import VMMode
from pagekeeper.core.packing import attribution_of, parse_line
from pagekeeper.core.payloads import elided

KEPT_CHARS_MIN: Final = 480
"""What a cut leaves of the words at least: about 120 tokens of English. Words that are not longer are never cut."""
TAIL_SHARE: Final = 0.75
"""Of what a cut keeps, the share that is kept of the end, where the question of a long message mostly stands."""
CUT_SHARE: Final = 0.75
"""Of the room that mandatory pages leave, the share that cut words take. The rest is for the conversation."""
FITTING_SHARE: Final = 0.9
"""The search for the longest cut ends when this share of the room is used."""
ATTEMPTS_MAX: Final = 12
RECALL_CHARS_MAX: Final = 16_384
"""Of the words, what recall is asked for: half of the beginning and half of the end of longer ones."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """The user's last words. `attribution` is who said it and when, as `packing.attribution_of` writes it.

    `page_id` names the page that holds the words; it is empty for words that are in no page.
    """

    text: str
    attribution: str = ""
    page_id: str = ""

    @classmethod
    def of_page(cls, page_id: str, words: str, speaker: str, said_unix_ms: int) -> "LastWords":
        return cls(words, attribution_of(speaker, said_unix_ms=said_unix_ms), page_id)

    @classmethod
    def unreadable(cls, page_id: str) -> "LastWords":
        """Stands for words whose bytes cannot be read."""
        return cls(f"[The user's last message, page {page_id}, cannot be read: its stored bytes are gone or damaged.]")

    @property
    def for_recall(self) -> str:
        """The words that recall is asked for."""
        if len(self.text) <= RECALL_CHARS_MAX:
            return self.text
        half = RECALL_CHARS_MAX // 2
        return f"{self.text[:half]}\n{self.text[-half:]}"


def words_to_answer(user_input: str, said: LastWords | None, *, is_input: bool, in_context: bool) -> LastWords:
    """The words that a prompt ends with.

    They are `user_input`, or what the user `said` last where that waits for an answer: words that were appended and are
    given again are not shown twice. What the user said last and the context does not show stands there too, so that no
    prompt is without the question while the model works on it.
    """
    if said is not None and is_input and user_input in {"", said.text}:
        return said
    if user_input or said is None or in_context:
        return LastWords(user_input)
    return said


def words_of_medium(line: str) -> str:
    """The words of a medium, which has no text: what its `line` says of it."""
    parsed = parse_line(line)
    return "" if parsed is None else parsed.text


class Cut(NamedTuple):
    """Words without their middle, and the number of characters that are missing."""

    text: str
    chars_missing: int


class ShownWords:
    """The words as a prompt's last message has them, whole or cut."""

    def __init__(self, words: LastWords, mode: VMMode) -> None:
        self._words = words
        self._text = elided(words.text)
        self._may_fault = mode is not VMMode.PASSIVE
        self._prefix = f"{words.attribution}: " if words.attribution else ""

    @property
    def chars(self) -> int:
        """Of the words, with a note in the place of each encoded payload."""
        return len(self._text)

    @property
    def can_be_cut(self) -> bool:
        return self.chars > KEPT_CHARS_MIN

    def whole(self) -> str:
        return guard_words(self._prefix + self._text)

    def cut(self, kept_chars: int) -> Cut:
        """The words without their middle; `kept_chars` are at least 1 and fewer than there are."""
        tail = max(1, int(kept_chars * TAIL_SHARE))
        head = kept_chars - tail
        left_out = f"{self.chars - kept_chars:,} characters of this message are left out here"
        begins, ends = self._text[:head], self._text[self.chars - tail :]
        text = guard_words(f"{self._prefix}{begins}\n[{left_out}{self._how_to_read(head)}]\n{ends}")
        return Cut(text, self.chars - kept_chars)

    def longest_cut(self, tokens: Callable[[str], int], tokens_max: int) -> Cut:
        """A cut of at most `tokens_max` tokens, and of most of them. The shortest one must fit.

        `tokens` counts a cut. The search narrows down the length by the tokens a character that it has seen.
        """
        found = self.cut(KEPT_CHARS_MIN)
        found_tokens = tokens(found.text)
        low, high = KEPT_CHARS_MIN, self.chars
        step = tokens_max * KEPT_CHARS_MIN // max(1, found_tokens)
        for _ in range(ATTEMPTS_MAX):
            kept = min(max(step, low + 1), high - 1)
            if kept <= low or found_tokens >= FITTING_SHARE * tokens_max:
                break
            tried = self.cut(kept)
            tried_tokens = tokens(tried.text)
            if tried_tokens <= tokens_max:
                low, found, found_tokens = kept, tried, tried_tokens
            else:
                high = kept
            step = kept * tokens_max // max(1, tried_tokens)
            if not low < step < high:
                step = (low + high) // 2
        return found

    def _how_to_read(self, offset: int) -> str:
        page_id = self._words.page_id
        if not page_id:
            return ": they do not fit"
        if not self._may_fault:
            return f"; page {page_id} has them"
        return f"; page_fault with page_id {page_id} and offset {offset} reads them"
