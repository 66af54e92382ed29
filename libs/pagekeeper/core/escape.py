"""Content as data: how page text is written inside a prompt so that it cannot act as the prompt's structure.

The prompt's structure is lines (one page each), `<VM:...>` tags, page headers such as `U (msg_001):`, and `[ref: ...]`
citations. Text written by `quote` contains none of them, occupies one line, and shows no invisible or
direction-changing character; `unquote` gives the very same text back. JSON written by `compact_json` stays JSON.

Chosen by measurement (o200k, tokens over the raw text): doubling only the backslashes that would be misread costs 7 %
on chat with markdown and 13 % on code, where JSON's own escaping costs 9 % and 14 %. Leaving quotes alone would save
1 % on code, and let a page seem to end early. JSON stays unquoted: in quotes it costs 8 to 11 % more.

This module never shortens, normalises or judges text.
"""

import json
import re

# Everything that is drawn as nothing, ends a line somewhere, or reorders what is drawn: C0 and C1 controls but the tab,
# soft hyphen, grapheme joiner, Arabic letter mark, Hangul fillers, Khmer inherent vowels, Mongolian selectors,
# zero-width space, bidi controls, line and paragraph separators, byte order mark, interlinear and musical format
# controls, tag characters and variation selectors beyond the BMP (both smuggle ASCII), lone surrogates (no UTF-8 has
# them). The zero-width joiners stay: emoji, Persian and Indic words need them.
_UNSAFE = (
    "\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff"
)
# A selector of text or emoji style stays behind a character that has both styles, and is a keycap's behind a digit.
_STYLED = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_STRAY_SELECTOR = rf"(?<![{_STYLED}#*0-9])[\ufe0e\ufe0f]|(?<=[#*0-9])[\ufe0e\ufe0f](?!\u20e3)"
_UNSAFE_CHARACTER = re.compile(rf"[{_UNSAFE}]|{_STRAY_SELECTOR}")
# One set, which is looked for ten times as fast: most texts beyond ASCII have nothing but accents and quotes there.
_MAYBE_UNSAFE = re.compile(rf"[{_UNSAFE}\ufe0e\ufe0f]")
_UNSAFE_IN_WORDS = re.compile(rf"\r(?!\n)|(?![\n\r])[{_UNSAFE}]|{_STRAY_SELECTOR}")

# Three kinds of structure end in a colon, so a backslash before the colon takes all three apart:
# a tag of ours, a citation, and a page header. A header's parentheses hold an id, names, a time, a level and marks, and
# no parenthesis. Any text without one counts as those: an application's ids may have other letters than a stack's.
_SPACE = r"[\s\u200c\u200d]{0,8}"
_STRUCTURE = re.compile(
    rf"(<[\s/\u200c\u200d]{{0,8}}(?i:vm){_SPACE}"
    rf"|\[{_SPACE}(?i:ref){_SPACE}"
    rf"|[UATSIDVJ?]{_SPACE}\([^()]+\){_SPACE}):"
)
# A cheap test for all three: most texts have none. It looks for the colons first, which are found soonest.
_STRUCTURE_END = re.compile(r":(?<=[)mMfF\s\u200c\u200d]:)")
_TAG = re.compile(rf"(<[\s/\u200c\u200d]{{0,8}}(?i:vm){_SPACE}):")

# What a serving engine may read as a control token of its chat template, even inside a message.
_BRACKETED = r"(?:/?INST|TOOL_CALLS|/?TOOL_RESULTS|/?AVAILABLE_TOOLS|/?SYSTEM_PROMPT|/?THINK)\]"
_CONTROL_TOKEN = re.compile(
    rf"<(?=[|\uff5c]|/?s>|bos>|eos>|(?:start|end)_of_turn>|/?think>|/?tool_call>)|\[(?={_BRACKETED})"
)

# What coloured output and right-to-left text are full of has an escape of about one token, as bare characters have:
# `\e[` begins a terminal's sequence as it does in a shell, `\>` and `\<` are the left-to-right and the right-to-left
# mark. A test run in colours costs 746 tokens (o200k; 735 as it came), with `\u{1B}` it would be 1,106.
_SHORT = {"\u200e": r"\>", "\u200f": r"\<"}

# A backslash is doubled only where a reader would take it for the start of an escape.
_MISREADABLE_BACKSLASH = re.compile(rf'\\(?=[\\nr":<>\ufe0e\ufe0f{_UNSAFE}]|u\{{|e\[|\[/?INST|\[{_BRACKETED}|\Z)')
_ESCAPE = re.compile(r'\\(?:([\\nr":<>]|e(?=\[))|u\{([0-9A-F]{1,6})\})')
_ESCAPED_BY_LETTER = {"n": "\n", "r": "\r", "e": "\x1b", ">": "\u200e", "<": "\u200f"}

# Escapes that a line had not always: pages may have been counted without them.
_LATER_ESCAPE = re.compile(
    r"\\(?:[<>]|e\[)|\)\\(?::|u003A)|\\u\{(?:3C\}/?(?:think|tool_call)>|5B\}(?!/?INST))"
    r"|\\u(?:003C/?(?:think|tool_call)>|005B(?!/?INST))"
    r"|\\u(?:\{(?:34F|115F|1160|17B[45]|180[B-F]|3164|FE0[0-9A-F]|FFA0)\}|034F|115F|1160|17B[45]|180[B-F]|3164|FE0|FFA0)"
)

_JSON_STRINGS_AND_REST = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^" \t\r\n]+')
_JSON_ESCAPED_CHARACTERS = re.compile(r"\\(?:((?:u[0-9a-fA-F]{4}(?:\\(?=u))?)+)|.)")


def escape(text: str) -> str:
    """`text` on one line, unable to act as structure or to end the quotes around it."""
    if "\\" in text:
        text = _MISREADABLE_BACKSLASH.sub(r"\\\\", text)
    if _STRUCTURE_END.search(text) is not None:
        text = _STRUCTURE.sub(r"\1\\:", text)
    if "<" in text or "[" in text:
        text = _CONTROL_TOKEN.sub(_code_point, text)
    text = text.replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    if _all_seen(text):
        return text
    return _UNSAFE_CHARACTER.sub(_written, text)


def unescape(escaped: str) -> str:
    """The text that `escape` was given. Exact inverse."""
    return _ESCAPE.sub(_escaped_character, escaped)


def quote(text: str) -> str:
    return f'"{escape(text)}"'


def unquote(quoted: str) -> str:
    """The text that `quote` was given; ValueError when the quotes are missing."""
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"':
        raise ValueError("not a quoted text")
    return unescape(quoted[1:-1])


def guard_words(text: str) -> str:
    """The words that a prompt ends with: `text` with its line breaks and quotes, unable to act as structure.

    Control tokens, citations, page headers and what cannot be seen are written as in a line. Not to be read back: a
    backslash stays as it is.
    """
    if _STRUCTURE_END.search(text) is not None:
        text = _STRUCTURE.sub(r"\1\\:", text)
    return visible(_CONTROL_TOKEN.sub(_code_point, text))


def visible(text: str) -> str:
    """`text` with its line breaks and tabs, and an escape for every other character that cannot be seen.

    No terminal takes any of it for a command. Invariant: `visible(visible(text)) == visible(text)`.
    """
    return _UNSAFE_IN_WORDS.sub(_written, text)


def has_later_escape(line: str) -> bool:
    """Whether `line` has an escape that earlier releases did not write, so that it may cost more than they counted."""
    return "\\" in line and _LATER_ESCAPE.search(line) is not None


def guard_tags(text: str) -> str:
    """`text` as it is, line breaks and all, but unable to open or close a `<VM:...>` section."""
    return _TAG.sub(r"\1\\:", text)


def compact_json(text: str) -> str | None:
    r"""The same JSON value on one line and unable to act as structure, or None when `text` is no JSON object or array.

    Only the space between lexemes goes and `\u` escapes of visible characters are written out; numbers, key order
    and duplicate keys stay as they are spelled.
    """
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return None
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    compact = "".join(_JSON_STRINGS_AND_REST.findall(text))
    if "\\u" in compact:
        compact = _JSON_ESCAPED_CHARACTERS.sub(_write_out, compact)
    return guard_json(compact)


def guard_json(text: str) -> str:
    """JSON text that means the same and whose strings can neither act as structure nor hide anything.

    `text` must be JSON without line breaks; every character replaced here can only stand inside a string of it.
    """
    if _STRUCTURE_END.search(text) is not None:
        text = _STRUCTURE.sub(r"\1\\u003A", text)
    text = _CONTROL_TOKEN.sub(_json_code_units, text)
    if _all_seen(text):
        return text
    return _UNSAFE_CHARACTER.sub(_json_code_units, text)


def _all_seen(text: str) -> bool:
    """Whether no character of `text` needs an escape for what it is drawn as."""
    return (text.isascii() and text.isprintable()) or _MAYBE_UNSAFE.search(text) is None


def _written(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\x1b" and match.string.startswith("[", match.end()):
        return r"\e"
    return _SHORT.get(character) or _code_point(match)


def _code_point(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):X}}}"


def _escaped_character(match: re.Match[str]) -> str:
    letter, code_point = match.groups()
    if letter is None:
        return chr(int(code_point, 16))
    return _ESCAPED_BY_LETTER.get(letter, letter)


def _refuse_constant(name: str) -> str:
    raise ValueError(f"{name} is not JSON")


def _write_out(match: re.Match[str]) -> str:
    r"""A run of `\u` escapes as the characters they mean; those below U+00A0 and lone surrogates stay escaped."""
    if match[1] is None:
        return match[0]
    units = [int(unit, 16) for unit in match[1].replace("\\", "").split("u")[1:]]
    text = b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be", "surrogatepass")
    return "".join(
        character if ord(character) >= 0xA0 and not 0xD800 <= ord(character) <= 0xDFFF else f"\\u{ord(character):04X}"
        for character in text
    )


def _json_code_units(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex().upper()}" for i in range(0, len(units), 2))
