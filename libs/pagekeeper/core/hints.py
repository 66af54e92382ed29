"""One line about a page, for finding it: never evidence, never a page's content in full unless it is that short.

A hint keeps what a search or a model would look for: the sentence that decides something, or else the first that says
something, then names and numbers from the rest. It is made when a page is written, so it is made in one pass over the
text's beginning; it is deterministic, at most `HINT_CHARS_MAX` characters, and has no line break or control character.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from pagekeeper.core.languages import STOPWORDS, Language, language_of
from pagekeeper.core.pages import MediaDescription, Modality
from pagekeeper.core.payloads import elided
from pagekeeper.core.sentences import is_filler, names_in
from pagekeeper.core.wellformed import read_json

HINT_CHARS_MAX: Final = 160
LEAD_CHARS_MAX: Final = 110
"""What the sentence may take of it, so that names and numbers from elsewhere find room."""
READ_CHARS_MAX: Final = 4_000
"""How much of a text is looked at."""
JSON_READ_CHARS_MAX: Final = 65_536

_OPENING_SENTENCE: Final = re.compile(
    r"[^.!?。！？]{1,400}(?:(?:[.!?](?=\S)|(?<=\b\d)\.(?= \w)|(?<=\b\d\d)\.(?= \w))[^.!?。！？]*)*[.!?。！？]*\s*"
)
"""A number of one or two digits with a stop may be an ordinal."""
_OPENING_SENTENCES_MAX: Final = 4
_DECIDING: Final = (
    "decided", "decision", "agreed", "chose", "chosen", "deadline", "root cause", "conclusion", "approved", "rejected",
    "instead of", "favorite", "favourite", "allergic", "my name is",
    "beschlossen", "entschieden", "vereinbart", "abgelehnt", "genehmigt", "allergisch", "ich heiße",
    "décidé", "convenu", "choisi", "date limite", "approuvé", "refusé", "je m'appelle",
    "decidido", "decidimos", "acordamos", "acordado", "plazo", "aprobado", "rechazado", "me llamo",
    "решили", "решил", "договорились", "утвердили", "отклонили", "срок", "меня зовут",
)  # fmt: skip
_DECIDING_UNSPACED: Final = ("决定", "商定", "批准", "否决", "截止", "決定", "合意", "承認", "却下", "締め切り")
_DECISION: Final = re.compile(rf"\b(?:{'|'.join(_DECIDING)})\b|{'|'.join(_DECIDING_UNSPACED)}")
_SENTENCE_ENDS: Final = (". ", "! ", "? ", "。", ": ")
_TITLES: Final = ("Dr.", "Mr.", "Mrs.", "Ms.", "Prof.")
_UNSPACED_NUMBER: Final = re.compile(r"\d[\d.,:/-]*[^\W\d_]?(?:\d+[^\W\d_])?")
_PUNCTUATION: Final = ".,;:!?()[]{}<>\"'“”‘’`*#|-"


def make_hint(text: str, modality: Modality, media: MediaDescription | None = None) -> str:
    """The hint of a page with this content; empty when there is nothing to say."""
    if media is not None and modality is not Modality.TEXT:
        return _bounded(_of_media(modality, media))
    if modality is Modality.STRUCTURED:
        return _bounded(_of_json(elided(text)))
    return _bounded(_of_text(elided(text)[:READ_CHARS_MAX]))


def _of_text(text: str) -> str:
    flat = _flat(text)
    if len(flat) <= HINT_CHARS_MAX:
        return flat
    # Most texts have none of the words, which is found out sooner one by one.
    decision = _DECISION.search(flat) if any(word in flat for word in (*_DECIDING, *_DECIDING_UNSPACED)) else None
    # A function word is one whatever stands behind it often enough, and splitting takes a fifth of finding words.
    language = language_of(flat, set(flat.lower().split(" ")))
    lead = _cut(_opening(flat, language) if decision is None else _around(flat, decision.start()), LEAD_CHARS_MAX)
    keys = ", ".join(_keys(flat, lead, HINT_CHARS_MAX - len(lead) - 2, language))
    return f"{lead}; {keys}" if keys else lead


def _flat(text: str) -> str:
    """`text` on one line; characters that are not drawn become spaces."""
    flat = " ".join(text.split())
    if flat.isprintable():
        return flat
    return " ".join("".join([c if c.isprintable() else " " for c in flat]).split())


def _around(flat: str, position: int) -> str:
    """The sentence that holds `position`, from its start or from a word a little before it."""
    least = max(0, position - LEAD_CHARS_MAX // 2)
    starts = [flat.rfind(end, least, position) + len(end) for end in _SENTENCE_ENDS if end in flat[least:position]]
    if starts:
        return flat[max(starts) :].lstrip()
    return flat[least and flat.find(" ", least, position) + 1 :]


def _opening(flat: str, language: Language) -> str:
    """The first sentence that is more than a greeting, or the first of all."""
    start = 0
    for _ in range(_OPENING_SENTENCES_MAX):
        sentence = _OPENING_SENTENCE.match(flat, start)
        if sentence is None:
            break
        if not is_filler(sentence[0], language):
            return flat[start : start + HINT_CHARS_MAX]
        start = sentence.end()
    return flat


def _keys(flat: str, lead: str, chars_max: int, language: Language) -> Iterator[str]:
    """Names and numbers that `lead` does not have, each once, while they fit."""
    told: set[str] = set()
    for key in _candidates(flat, language):
        if key not in lead and key not in told:
            if len(key) + 2 > chars_max:
                return
            chars_max -= len(key) + 2
            told.add(key)
            yield key


def _candidates(flat: str, language: Language) -> Iterator[str]:
    """Names and numbers in order; a script without spaces has its numbers with the character behind them."""
    if language.content is not None:
        yield from _UNSPACED_NUMBER.findall(flat)
        yield from names_in(flat, language)
        return
    names = frozenset(names_in(flat, language)) if language.capitalises_nouns else None
    seen = {""}
    before = "."
    for word in flat.split(" "):
        if not word.islower():
            key = word.strip(_PUNCTUATION)
            # A word that opened a sentence is none, wherever else it stands.
            if key not in seen and _is_key(key, before) and (names is None or key in names or not key.isalpha()):
                yield key
            seen.add(key)
        before = word


def _is_key(key: str, before: str) -> bool:
    """A number of more than one digit, an acronym, or a capitalised word inside a sentence."""
    if any(map(str.isdigit, key)):
        return len(key) > 1
    inside = before[-1].isalnum() or before[-1] == "," or before in _TITLES
    return (key.isupper() and len(key) > 1) or (inside and key[0].isupper() and key.lower() not in STOPWORDS)


def _of_json(text: str) -> str:
    """`key: value` for scalars, `key[n]` for lists, `key{...}` for objects, outermost first."""
    if len(text) > JSON_READ_CHARS_MAX:
        return _of_text(text[:READ_CHARS_MAX])
    try:
        value = read_json(text, str)
    except ValueError:
        return _of_text(text[:READ_CHARS_MAX])
    return _flat(", ".join(_told(value)))


def _told(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON is any value
    match value:
        case dict():
            yield from (_entry(key, inner) for key, inner in value.items())
        case list():
            yield f"list of {len(value)}"
            if value and isinstance(value[0], dict):
                yield from _told(value[0])
        case _:
            yield str(value)


def _entry(key: str, value: object) -> str:
    match value:
        case dict():
            return f"{key}{{{', '.join(list(value)[:4])}}}"
        case list():
            return f"{key}[{len(value)}]"
        case _:
            return f"{key}: {_cut(str(value), 40)}"


def _of_media(modality: Modality, media: MediaDescription) -> str:
    about = media.caption or media.transcript or "; ".join(media.scenes)
    size = f", {media.width}x{media.height}" if media.width and media.height else ""
    playing = f", {media.duration_seconds:.0f} s" if media.duration_seconds > 0 else ""
    told = _cut(_of_text(about), LEAD_CHARS_MAX)
    return f"{modality.value}: {told}{size}{playing}" if told else f"{modality.value}{size}{playing}"


def _bounded(hint: str) -> str:
    return _cut(hint, HINT_CHARS_MAX)


def _cut(text: str, chars_max: int) -> str:
    """The beginning of `text`, to the end of a word where there is one, with a mark that there is more."""
    if len(text) <= chars_max:
        return text
    space = text.rfind(" ", chars_max // 2, chars_max)
    return f"{text[: space if space > 0 else chars_max - 1].rstrip(' ,;:')}…"
