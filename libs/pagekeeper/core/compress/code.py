"""Code as its outline: what it imports, defines and promises, line by line as it stands in the source.

Works on lines, in any language whose definitions begin with a word: it does not parse, so broken code and unknown
languages give shorter outlines, never errors.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from pagekeeper.core.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.core.pages import CompressionLevel

SIGNATURE_LINES_MAX: Final = 8
TERMS_SHARE: Final = 0.25
_CODE_SHARE_MIN: Final = 0.5
_LINES_MIN: Final = 3

_MODIFIERS: Final = (
    r"(?:(?:public|private|protected|static|final|abstract|async|export|default|pub(?:\([a-z]+\))?|unsafe|inline|virtual"
    r"|override|open|internal|data|sealed|extern|const)\s+){0,6}"
)
_DEFINITION: Final = re.compile(
    rf"\s*{_MODIFIERS}(?:def|class|function\*?|fn|func|fun|interface|struct|enum|trait|impl|type|module|namespace|record"
    r"|protocol|message|service|rpc|macro_rules!|sub|procedure|(?:CREATE|create)\s+(?:TABLE|VIEW|INDEX|FUNCTION|table))"
    r"\s+(?:\([^)]{0,80}\)\s*)?[`\"]?(?P<name>[\w.:$]+)"
)
_FUNCTION_VALUE: Final = re.compile(
    rf"\s*{_MODIFIERS}(?:const|let|var)\s+(?P<name>\w+)\s*=\s*(?:async\s*)?(?:function\b|\([^)]{{0,200}}\)\s*=>|\w+\s*=>)"
)
_C_FUNCTION: Final = re.compile(
    r"(?:[A-Za-z_][\w:<>*&]*\s+){1,5}\*?(?P<name>[\w:~]+)\([^;]{0,200}\)\s*(?:const\s*)?\{?\s*$"
)
_IMPORT: Final = re.compile(
    r"\s*(?:import\b|from\s+\S+\s+import\b|#\s*include\b|using\s|use\s+[\w:]+|package\s|require\b)"
)
_CONSTANT: Final = re.compile(r"(?:export\s+|const\s+|static\s+)?[A-Z][A-Z0-9_]{2,}\s*(?::[^=]{1,60})?=")
_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
_DECORATOR: Final = re.compile(r"\s*(?:@\w|#\[)")
_DOC: Final = re.compile(r"\s*(?:[rf]?\"\"\"|'''|///|/\*\*|//|--|#(?!\s*include)|\*\s)\s*\S")
_STATEMENT: Final = re.compile(
    r"\s*(?:return\b|if\b.*[:{]$|else\b.*[:{]$|for\b.*[:{]$|while\b.*[:{]$|try\s*[:{]$|import\b|from\b.*import|@\w|#include"
    r"|[}\])]+[;,]?$|[\w.\[\]\"']+\s*(?:[-+*/|&]?=|:=)\s*\S|[\w.]+\(.*\)[;,]?$|.*[;{]$|</?\w[^>]*>)"
)


_TERM: Final = re.compile(
    r"(?:[^\W\d][\w.-]{0,60}[\"'\])]{0,3} ?(?:[=<>~^]=|[=:(<>]) ?[\"']?)?-?\d[\w.:,%]*|[^\W\d_][\w.-]*\w|\w"
)
"""A word of code; a number with what it is assigned to or compared with."""
_TERM_PART: Final = re.compile(r"\d+(?:[.,:]\d+)*[^\W_]*|[^\W_]+")


class OutlineCompressor:
    @property
    def name(self) -> str:
        return "outline/2"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        return if_shorter(self.name, source, level, _told(source.text, level), count)


def _told(code: str, level: CompressionLevel) -> str:
    """The outline; at REDUCED also, as far as they fit, the words and numbers of the code that are not in it."""
    lines = outline(code, level)
    if level is not CompressionLevel.REDUCED:
        return lines
    room_chars = int(TERMS_SHARE * len(code))
    terms: list[str] = []
    for term in new_terms(code, set(words_of(lines))):
        room_chars -= len(term) + 1
        if room_chars < 0:
            break
        terms.append(term)
    return "\n".join(filter(None, [lines, " ".join(terms)]))


def looks_like_code(text: str) -> bool:
    """Whether most lines are statements, definitions or brackets; text with code in fences is prose."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if any(_FENCE.match(line) for line in lines):
        return False
    telling = [line for line in lines if _is_code(line)]
    return len(lines) >= _LINES_MIN and len(telling) >= _CODE_SHARE_MIN * len(lines) and any(map(_name, lines))


def outline(code: str, level: CompressionLevel) -> str:
    """The lines that tell what `code` offers, as they are; at REFERENCE the names that it defines."""
    if level is CompressionLevel.REFERENCE:
        return ", ".join(dict.fromkeys(filter(None, map(_name, code.splitlines()))))
    return "\n".join(_kept(code.splitlines(), level))


def words_of(text: str) -> list[str]:
    """The words and numbers of `text` in lower case, those inside identifiers each by itself."""
    return _TERM_PART.findall(text.lower())


def new_terms(code: str, said: set[str]) -> Iterator[str]:
    """The words and numbers of `code` that are not `said`, as they stand there, each once; afterwards they are."""
    for term in _TERM.findall(code):
        parts = words_of(term)
        if not said.issuperset(parts):
            said.update(parts)
            yield term


def _is_code(line: str) -> bool:
    return _STATEMENT.match(line) is not None or _name(line) is not None


def _name(line: str) -> str | None:
    for pattern in (_DEFINITION, _FUNCTION_VALUE, _C_FUNCTION):
        match = pattern.match(line)
        if match is not None:
            return match["name"].rstrip(".:")
    return None


def _kept(lines: list[str], level: CompressionLevel) -> Iterator[str]:
    position = 0
    before: list[str] = []
    while position < len(lines):
        line = lines[position]
        if _name(line) is not None:
            end = _signature_end(lines, position)
            if level is CompressionLevel.REDUCED:
                yield from before
            yield from lines[position:end]
            if level is CompressionLevel.REDUCED and end < len(lines) and _DOC.match(lines[end]):
                yield lines[end]
                end += 1
            position, before = end, []
            continue
        if level is CompressionLevel.REDUCED and (_IMPORT.match(line) or _CONSTANT.match(line)):
            yield line
        before = _introduction(before, line)
        position += 1


def _introduction(before: list[str], line: str) -> list[str]:
    """Decorators and the first line of the comment right above whatever comes next."""
    if _DECORATOR.match(line):
        return [*before, line]
    if _DOC.match(line):
        return before or [line]
    return []


def _signature_end(lines: list[str], start: int) -> int:
    """Behind the last line of the signature that begins at `start`: where its parentheses are closed."""
    depth = 0
    for position in range(start, min(len(lines), start + SIGNATURE_LINES_MAX)):
        depth += lines[position].count("(") - lines[position].count(")")
        if depth <= 0:
            return position + 1
    return start + 1
