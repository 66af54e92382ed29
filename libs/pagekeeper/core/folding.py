r"""Spellings of one word as one spelling, for search: what is indexed and what is asked for are folded alike.

In two steps, because a language is told by letters that the second step takes away:

- `respelled` gives the characters that a reader sees: compatibility forms (NFKC: width, ligatures, Hangul syllables),
  digits of every script as ASCII's, without characters that are drawn as nothing, and without terminal escapes.
- `folded` gives what differs in writing and not in meaning one form: full case folding, no marks on Latin, Greek,
  Cyrillic, Hebrew and Arabic letters (vowel points, accents, the dots of Cyrillic yo), one form of each Arabic letter.

`other_spellings` are words that a text has beside those that it shows: numbers without their grouping, emoji as words,
words behind escapes such as `\n`, words on both sides of a break that is not drawn.

Laws: both steps are idempotent, and ASCII without control characters stays as it is.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import IntFlag
from functools import lru_cache
from typing import Final

# Default_Ignorable_Code_Point of Unicode, and the Arabic tatweel, which only widens a word.
_IGNORABLE: Final = (
    "\xad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")
_IGNORED: Final = re.compile(f"[{_IGNORABLE}]+")
_BREAK_NOT_DRAWN: Final = re.compile(f"[^\\W_]+(?:[{_IGNORABLE}]+[^\\W_]+)+")
# A sequence that styles characters (SGR) or erases the line stands inside words; all others stand between them. Of a
# string (OSC: a title, a link) only the introducer goes.
_STYLE: Final = re.compile("\x1b\\[[0-9;:]*[mK]|\x9b[0-9;:]*[mK]")
_TERMINAL_ESCAPE: Final = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]|\x1b\\][0-9]*;?|\x1b[ -/]*[0-Z^-~\\\\]?"
)
_SIGNS_BESIDE_WORDS: Final = re.compile("[\u2120\u2122]")
"""The signs of service and trade mark: NFKC would make them letters of the word in front."""
_PUNCTUATION: Final = re.compile("[\xa0\u2000-\u200a\u2010-\u2027\u2030-\u205e]")
"""Typographical signs and spaces, which separate words as they are."""
_FOREIGN_DIGIT: Final = re.compile(r"(?![0-9])\d")

# Without the vowel signs of Indic and kindred scripts, which are no decoration.
_MARKS: Final = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u08d3-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
# Cyrillic short i is a letter of its own, whose breve is a mark in decomposed text.
_DECORATION: Final = re.compile(f"(?!(?<=\u0438)\u0306)[{_MARKS}]")
_ONE_LETTER: Final = str.maketrans(
    {
        "\u0131": "i",  # dotless, whose capital is I
        "\u0649": "\u064a",  # alef maksura, which often stands for yeh
        "\u06cc": "\u064a",  # Farsi yeh
        "\u06a9": "\u0643",  # Farsi keheh
        "\u0629": "\u0647",  # teh marbuta
        "\u0671": "\u0627",  # alef wasla
    }
)

_VARIANT: Final = re.compile(f"[{''.join(map(chr, _ONE_LETTER))}]")

_BETWEEN_GROUPS: Final = "[,.'\u2019_ \xa0\u2009]"
# The second digit group may have two digits, as in India. What stands before the number is looked at behind its first
# digit, because a search for digits is quick.
_GROUPED_NUMBER: Final = re.compile(
    rf"[0-9](?<![\w.,'\u2019][0-9])[0-9]{{0,2}}(?:{_BETWEEN_GROUPS}[0-9]{{2,3}})*{_BETWEEN_GROUPS}[0-9]{{3}}(?![0-9])"
)
_GROUPING: Final = re.compile(_BETWEEN_GROUPS)
_EMOJI: Final = re.compile(
    "[\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f1ff\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
)
_WRITTEN_ESCAPE: Final = re.compile(r"\\+(?:u\{?([0-9a-fA-F]{1,6})\}?|x([0-9a-fA-F]{2})|(?:0?33|e)(?=\[)|[abfnrtv])")
_ESCAPES_CHARS_MAX: Final = 4_096
"""A longer run without a space is data."""
_WORD: Final = re.compile(r"\w+")


class _Needs(IntFlag):
    """The steps that some characters of a text need."""

    NOTHING = 0
    RESPELLING = 1
    FOLDING = 2
    EMOJI = 4
    JOINING = 8


def respelled(text: str) -> str:
    """`text` in the characters that a reader sees, case and accents as they are."""
    if "\x1b" in text or "\x9b" in text:
        text = _TERMINAL_ESCAPE.sub(" ", _STYLE.sub("", text))
    if text.isascii() or not _needs(text) & _Needs.RESPELLING:
        return text
    text = unicodedata.normalize("NFKC", _IGNORED.sub("", _SIGNS_BESIDE_WORDS.sub(" ", text)))
    return unicodedata.normalize("NFC", _IGNORED.sub("", _FOREIGN_DIGIT.sub(_ascii_digit, text)))


def folded(text: str) -> str:
    """A respelled text, in one form for all spellings of a word."""
    if text.isascii() or not _needs(text) & _Needs.FOLDING:
        return text
    bare = _DECORATION.sub("", unicodedata.normalize("NFD", text.casefold()))
    folded_once = unicodedata.normalize("NFC", bare)
    return folded_once if _VARIANT.search(folded_once) is None else folded_once.translate(_ONE_LETTER)


def other_spellings(text: str) -> Iterator[str]:
    """Words to index, and to look for, beside those of `respelled(text)` and the numbers in it."""
    if "\\" in text:
        for run in text.split():
            if "\\" in run:
                yield from _behind_escapes(run[:_ESCAPES_CHARS_MAX])
    if text.isascii():
        return
    needs = _needs(text)
    if needs & _Needs.EMOJI:
        for emoji in _EMOJI.findall(text):
            yield f"emoji{ord(emoji):x}"
    if needs & _Needs.JOINING:
        for joined in _BREAK_NOT_DRAWN.findall(text):
            yield from (respelled(part) for part in _IGNORED.split(joined) if len(part) > 1)


def numbers_without_grouping(shown: str) -> Iterator[str]:
    """The numbers of a respelled text that are written in groups of digits: 1234 for `1,234`, `1.234` and `1 234`."""
    return (_GROUPING.sub("", number[0]) for number in _GROUPED_NUMBER.finditer(shown))


def _needs(text: str) -> _Needs:
    needs = 0
    for character in set(_NOT_ASCII.findall(text)):
        needs |= _needs_of(character)
    return _Needs(needs)


@lru_cache(65_536)
def _needs_of(character: str) -> int:
    if _PUNCTUATION.match(character) is not None:
        return 0
    is_ignored = _IGNORED.match(character) is not None
    is_bound = unicodedata.combining(character) or "\u1100" <= character <= "\u11ff"
    is_digit = character.isdecimal() or _SIGNS_BESIDE_WORDS.match(character) is not None
    respelling = is_ignored or is_bound or is_digit or unicodedata.normalize("NFKC", character) != character
    is_plain = character.casefold() == character and unicodedata.normalize("NFD", character) == character
    folding = is_bound or not is_plain or _VARIANT.match(character) is not None
    emoji = _EMOJI.match(character) is not None
    return (
        (_Needs.RESPELLING if respelling else 0)
        | (_Needs.FOLDING if respelling or folding else 0)
        | (_Needs.EMOJI if emoji else 0)
        | (_Needs.JOINING if is_ignored else 0)
    )


def _behind_escapes(run: str) -> Iterator[str]:
    """The words of a run once its written escapes are what they mean, without those that it has anyway."""
    meant = _WRITTEN_ESCAPE.sub(_meant, run)
    if meant != run:
        there = frozenset(_WORD.findall(run))
        yield from (word for word in _WORD.findall(respelled(meant)) if word not in there)


def _meant(escape: re.Match[str]) -> str:
    code_point = int(escape[1] or escape[2] or "20", 16)
    if escape[0].endswith(("33", "e")) and escape[1] is None and escape[2] is None:
        return "\x1b"
    return chr(code_point) if code_point <= 0x10FFFF and not 0xD800 <= code_point <= 0xDFFF else " "


def _ascii_digit(match: re.Match[str]) -> str:
    return str(unicodedata.decimal(match[0]))
