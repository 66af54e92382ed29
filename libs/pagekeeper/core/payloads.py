"""Encoded payloads in a text: base64 and data URLs, which are a file for a program and noise for a model.

A page keeps its payloads byte for byte. Whatever is shown of the page has `[elided: image/png, 9,000 bytes in base64]`
in the place of each: its line in a prompt, its lower levels, its hint, the answer to a page fault. What is counted is
what is shown. In JSON the note stands inside the string that held the payload, so the JSON stays JSON.

Invariant: `elided(elided(text)) == elided(text)`, and a text without a payload stays as it is.
"""

import re
from typing import Final

CHARS_MIN: Final = 256
"""Of base64 that no data URL announces: digests, keys and tokens are shorter, and a model may have to repeat them."""
ANNOUNCED_CHARS_MIN: Final = 64
"""Of base64 that a data URL announces: the note in its place takes about 45 characters."""
DISTINCT_MIN: Final = 24
"""Different characters in a run: base64 has 64 of them, a ruler of dashes or a repeated word a few."""
DENSE_SHARE_MIN: Final = 0.25
"""Share of capitals and digits: over 0.4 in base64 of any file, under 0.1 in paths and in words joined by hyphens."""
RUN_CHARS_MIN: Final = 60
"""Characters of a payload's first line: MIME writes 76, PEM 64."""
_CONTEXT_CHARS: Final = 200
"""Characters beside a run in which its kind may be told, as an object of a tool's JSON tells it."""

# A run may be broken into lines as in MIME and PEM, in JSON by `\n`, and some writers escape `/` as `\/`: a backslash
# is part of a run. Its last line may be short.
_BASE: Final = r"A-Za-z0-9+/_\\-"
_RUN: Final = re.compile(
    rf"(?<![{_BASE}])[{_BASE}]{{{RUN_CHARS_MIN},}}"
    rf"(?:\r?\n[ \t]*[{_BASE}]{{20,}}|\r?\n[ \t]*[A-Za-z0-9+/]+={{0,2}}(?=\s|\Z))*={{0,2}}"
)
_HALF_RUN_CHARS: Final = RUN_CHARS_MIN // 2
_PART_OF_RUN: Final = re.compile(rf"[{_BASE}]{{{_HALF_RUN_CHARS}}}")
_ESCAPE: Final = re.compile(r"\\+(?:[rn]|u003[dD]|(?=/))|\s+")
_ANNOUNCEMENT: Final = re.compile(
    r"data:([\w.+-]{1,64}/[\w.+-]{1,64})?(?:;[\w=.\"-]{1,64}){0,4};base64,\Z", re.IGNORECASE
)
_MEDIA_TYPE: Final = re.compile(r"\b((?:image|audio|video|application|font)/[\w.+-]{1,64})")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_KINDS: Final = (
    ("iVBORw0KGg", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("SUkqAA", "image/tiff"),
    ("PHN2Zy", "image/svg+xml"),
    ("JVBERi0", "application/pdf"),
    ("UEsDB", "application/zip"),
    ("H4sI", "application/gzip"),
    ("SUQz", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
    ("GkXfo", "video/webm"),
    ("AAAAIGZ0eXA", "video/mp4"),
    ("AAAAHGZ0eXA", "video/mp4"),
)
_RIFF: Final = "UklGR"


def elided(text: str) -> str:
    """`text` with a note in the place of each payload: its kind, as far as it is told, and its size."""
    if len(text) < ANNOUNCED_CHARS_MIN or not _may_have_run(text):
        return text
    return _RUN.sub(_note, text)


def _may_have_run(text: str) -> bool:
    """Whether `text` may have a run: prose has none, which is seen in 2 us a KiB.

    The first line of a run has RUN_CHARS_MIN characters, so it covers a whole slice of half as many.
    """
    for start in range(0, len(text), _HALF_RUN_CHARS):
        part = text[start : start + _HALF_RUN_CHARS]
        if " " not in part and _PART_OF_RUN.fullmatch(part) is not None:
            return _RUN.search(text, max(0, start - _HALF_RUN_CHARS)) is not None
    return False


def _note(found: re.Match[str]) -> str:
    run = found[0].rstrip("\\")
    data = _ESCAPE.sub("", run)
    before = found.string[max(0, found.start() - _CONTEXT_CHARS) : found.start()]
    announced = _ANNOUNCEMENT.search(before)
    chars_min = CHARS_MIN if announced is None else ANNOUNCED_CHARS_MIN
    if not _is_payload(data, chars_min, is_told=announced is not None or bool(_kind(data))):
        return found[0]
    kind = (announced[1] if announced else None) or _kind(data) or _kind_beside(found, before) or "data"
    size_bytes = len(data.rstrip("=")) * 3 // 4
    return f"[elided: {kind}, {size_bytes:,} bytes in base64]{found[0][len(run) :]}"


def _is_payload(data: str, chars_min: int, *, is_told: bool) -> bool:
    if len(data) < chars_min or _BASE64.fullmatch(data) is None:
        return False
    if is_told:
        return True
    judged = data[:4_096]
    dense = sum(map(str.isupper, judged)) + sum(map(str.isdigit, judged))
    return len(set(judged)) >= DISTINCT_MIN and dense >= DENSE_SHARE_MIN * len(judged)


def _kind(data: str) -> str:
    """The media type that the first bytes tell; empty when they tell none that is known."""
    if data.startswith(_RIFF):
        return "image/webp" if "V0VCU" in data[:20] else "audio/wav"
    return next((kind for beginning, kind in _KINDS if data.startswith(beginning)), "")


def _kind_beside(found: re.Match[str], before: str) -> str:
    """The media type told beside the run, as the `mimeType` of an object is; the nearest in front, else behind."""
    named = _MEDIA_TYPE.findall(before)
    if named:
        return str(named[-1])
    behind = _MEDIA_TYPE.search(found.string, found.end(), found.end() + _CONTEXT_CHARS)
    return behind[1] if behind else ""
