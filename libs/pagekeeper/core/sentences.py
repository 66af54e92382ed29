"""Text as sentences, and what each of them says: the ground that hints and compressors stand on.

Invariant: every sentence is a slice of its text, in order, and what lies between sentences is white space alone.
Splitting and judging are deterministic and need no model. Nothing here rewrites: what is kept is kept word for word.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.languages import ENGLISH, FRENCH, STOPWORDS, Language, language_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SENTENCE_CHARS_MAX: Final = 1_000
"""Longer runs without an end (minified code, base64) are cut at white space, or hard when there is none."""
UNSPACED_WORDS_MAX: Final = 4
"""Of one run of characters: a loan word is long and one word."""
FILLER_WORDS_MAX: Final = 6
"""A sentence that begins like filler and says more than this is none."""

_FENCE: Final = re.compile(r"[ \t]*(```+|~~~+)")
# No pattern here looks at a character more than a few times, whatever the text: pages are anyone's, and may be large.
_END: Final = re.compile(r"""(?<![.!?…])[.!?…]++["'”’)\]*_]*+(?=\s)|[。｡！？।؟۔]++[”’」』）]*""")
_LINE: Final = re.compile(r"[^\n]*\n?")
_BULLET: Final = re.compile(r"(?:[-*+•–]|\d{1,3}[.)]|[a-z][.)])\s")
_ENDED: Final = re.compile(r"""[.!?…:;。｡！？।؟۔|]["'”’)\]*_]*$""")
_BEFORE_STOP: Final = re.compile(r"[^\s(\[\"'“‘]+$")
_ABBREVIATIONS: Final = _words(
    """
    mr mrs ms dr prof sr jr st vs etc e.g i.e eg ie approx no nos fig eq inc ltd co corp jan feb mar apr jun jul aug
    sep sept oct nov dec dept est max min tel a.m p.m u.s u.k
    z.b d.h bzw vgl nr mme mlle p.ex sra srta núm ee.uu т.е т.к т.н ул им проф
    """
)
"""What a stop follows that never ends a sentence."""
_ABBREVIATIONS_AT_ENDS: Final = _words(
    """
    ca usw u.a mio mrd evtl ggf inkl zzgl okt dez env av aprox uds pág
    г гг в вв р руб коп тыс млн млрд т.д т.п др пр см стр напр
    """
)
"""What ends a sentence unless a small letter or a digit follows."""
_GERMAN_MONTH: Final = re.compile(r"\s+(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember)\b")
_SHARED_MONTH: Final = re.compile(r"\s+(?:April|August|September|November)\b")
_NOUN: Final = re.compile(r"\s+[A-ZÄÖÜ][a-zäöüß]")
_NEXT: Final = re.compile(r"\s+(\S)(\.)?")
_BEFORE_ORDINAL: Final = re.compile(
    r"\b(?:am|vom|zum|zur|im|beim|der|die|das|den|dem|des|und|bis|jede[rnms]?|seine[rnms]?|ihre[rnms]?|unsere[rnms]?"
    r"|eine[rnms]?)\s+$",
    re.IGNORECASE,
)
_ORDINAL_DIGITS_MAX: Final = 2

WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_NUMBER: Final = re.compile(r"\d[\d.,:/%-]*")
# That no word goes on before it is asked behind the capital: a pattern that begins with a set is looked for by the set.
_NAME: Final = re.compile(r"[A-Z\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0410-\u042f](?<!\w.)[^\W\d_]+")
_IDENTIFIER: Final = re.compile(r"\b\w+(?:[_/@]|::|://)\w+|\b[a-z]+[A-Z]\w*|\w\.[a-z]\w|`[^`\n]+`")
_IN_IDENTIFIER: Final = re.compile(r"[_/@:.`A-Z](?:(?<=[_/@`])|(?<=:):|(?<=\w\.)[a-z]\w|(?<=[a-z][A-Z]))")
"""What every identifier has in it, and most short messages have not: it takes a fifth of the time to see that."""
_LABEL: Final = re.compile(r"([^\W\d_][\w.'’-]{0,30}(?: [^\W\d_][\w.'’-]{0,30}){0,2})(?:,[^:\n]{1,30})?: ")
SPEAKER_WORDS_MAX: Final = 3
_ADDRESS: Final = re.compile(r",\s+[A-Z][^\W\d_]+(?=[.!?]+$)")  # the name in "I agree, Mel!" says nothing

_ENDINGS: Final = _words("ll ve re em")
"""What is left of a capitalised `I'LL` behind its apostrophe."""
_GERMAN_NAME_FOLLOWS: Final = _words(
    """
    herr herrn frau dr prof familie oma opa tante onkel
    in nach aus von bei mit für über an zu ab gegen ohne durch um
    und oder hat haben ist sind war wird will kann muss dass wie als weil wenn sagt sagte heiße heißt
    """
)
"""A German noun stands here only with an article or an adjective before it, and a name without."""
_GERMAN_NOUN: Final = re.compile(r".*(?:ung|ungen|heit|heiten|keit|keiten|schaft|schaften|ion|ionen|ismus|tät|nis|tum)")
_UNSPACED_NAME: Final = re.compile(
    r"[A-Z][A-Za-z0-9_-]+"
    r"|(?:(?![的了是在我你您他她们这那和与跟就都也很把被给对从到由])[\u3400-\u9fff\u30a1-\u30ff]){1,12}?"
    r"(?=さん|先生|様|氏|ちゃん|女士|小姐|医生|教授)"
)
"""What an honorific follows, and Latin words, in a script that writes no spaces and has no capitals."""
_WORD_BEFORE: Final = re.compile(r"([^\W\d_]+)\.?\s+$")
JUDGED_CHARS: Final = 1_000
"""Of a message: what says more than that is full of facts anyway."""
FULL_WEIGHT: Final = 40.0
"""Facts of a message that nothing is more likely to be asked for than."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """`text` is the slice of the source from `start`; `line` tells which sentences stood on one line of it."""

    start: int
    text: str
    line: int
    code: bool = False
    """A fenced block of code, fences included."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a sentence that justify its tokens."""

    numbers: int
    names: int
    identifiers: int
    decisions: int
    content_words: int
    filler: bool
    question: bool

    @property
    def weight(self) -> float:
        """Numbers and decisions weigh most: they are what nobody can guess. Questions say less than statements."""
        if self.filler:
            return self.numbers + 0.5 * self.names
        said = (
            3.0 * min(self.numbers, 6)
            + 1.0 * min(self.decisions, 3)
            + 1.5 * min(self.names, 6)
            + 1.5 * min(self.identifiers, 6)
            + 1.0 * self.content_words
        )
        return 0.5 * said if self.question else said


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of `text` in order: prose by its full stops, lists and logs by lines, fenced code by blocks."""
    return [sentence for paragraph in _paragraphs(text) for sentence in _sentences(paragraph)]


def facts_of(text: str, language: Language | None = None) -> Facts:
    """Return the facts of `text`, read in `language`, or in the language of most of its words."""
    text = _ADDRESS.sub("", text)
    words = _distinct_words(text)
    return _facts(text, words, language or language_of(text, words))


def recall_likelihood_percent_of(text: str) -> int:
    """Estimated chance, 0 to 100, that a message is asked for later, by the facts that its beginning has.

    `100 * min(1, Facts.weight / FULL_WEIGHT) ** 2`: the square, because what is rich in facts is asked for far more
    often than what is not.
    """
    text = _ADDRESS.sub("", text[:JUDGED_CHARS])
    words = _distinct_words(text)
    language = language_of(text, words)
    # Most messages of some length have enough by their words alone, more than any opening of filler could take away.
    if _content_count(text, words, language) >= FULL_WEIGHT and not _is_question(text):
        return 100
    full = min(1.0, _facts(text, words, language).weight / FULL_WEIGHT)
    return round(100 * full * full)


def content_words(text: str, language: Language) -> set[str]:
    """The words of `text`, in lower case, that are not there for grammar alone."""
    if language.content is not None:
        return set(language.content.findall(text.lower()))
    return set(WORD.findall(text.lower())) - language.function_words


def _facts(text: str, words: set[str], language: Language) -> Facts:
    content = _content_count(text, words, language)
    return Facts(
        numbers=len(_NUMBER.findall(text)) + len(words & language.number_words),
        names=len(names_in(text, language)),
        identifiers=len(_IDENTIFIER.findall(text)) if _IN_IDENTIFIER.search(text) else 0,
        decisions=_decisions(text, words, language),
        content_words=content,
        filler=content == 0 or is_filler(text, language),
        question=_is_question(text),
    )


def _content_count(text: str, words: set[str], language: Language) -> int:
    """Different words that say something; two characters of a script without spaces are about a word."""
    if language.content is None:
        return len(words - language.function_words - language.courtesies)
    return sum([min(len(run), UNSPACED_WORDS_MAX * 2) for run in set(language.content.findall(text))]) // 2


def _decisions(text: str, words: set[str], language: Language) -> int:
    """How many different words, or in a script without spaces how many stems, say that something was settled."""
    stems = language.decision_stems
    if language.content is not None:
        return sum([stem in text for stem in stems])
    return len(words & language.decision_words) + sum([word.startswith(stems) for word in words] if stems else ())


def _distinct_words(text: str) -> set[str]:
    return set(WORD.findall(text.lower().replace("’", "'")))


def _is_question(text: str) -> bool:
    return text.rstrip().endswith(("?", "？"))


def is_filler(text: str, language: Language = ENGLISH, *, words_max: int = FILLER_WORDS_MAX) -> bool:
    """Whether a sentence only keeps a conversation going: a greeting, thanks, an exclamation.

    It begins like one, and goes on with fewer than `words_max` words that say something.
    """
    match = language.filler.match(text)
    return match is not None and len(content_words(text[match.end() :], language)) < words_max


def names_in(text: str, language: Language | None = None) -> list[str]:
    """Words that look like names, each once, in order; read in `language`, or in the one that the words speak for.

    Capitalised words and acronyms; a first word only when it is one inside the sentence too. Where every noun has a
    capital, those that stand where a noun would have an article. In a script without capitals, what an honorific
    follows, and Latin words; in other scripts there are no names here, and their words count as content.
    """
    if language is None:
        language = language_of(text, _distinct_words(text))
    if language.content is not None:
        found_words = (word for word in _UNSPACED_NAME.findall(text) if word.lower() not in STOPWORDS)
        return list(dict.fromkeys(found_words))
    found: dict[str, None] = {}
    for match in _NAME.finditer(text):
        word = match[0]
        opens = match.start() == 0 or not text[match.start() - 1].isspace() or text[match.start() - 2] in ".!?:。！？"
        if opens and language is FRENCH and match.start() > 1 and text[match.start() - 1] in "'’":
            opens = False  # the name in "l'Oise", behind an article that has lost its vowel
        ending = word.lower() in _ENDINGS and text[match.start() - 1 : match.start()] in ("'", "’")
        if (
            (opens and not word.isupper())
            or ending
            or word.lower() in STOPWORDS
            or word.lower() in language.function_words
        ):
            continue
        if not language.capitalises_nouns or _is_name_among_nouns(text, match, found):
            found.setdefault(word)
    return list(found)


def _is_name_among_nouns(text: str, match: re.Match[str], found: Collection[str]) -> bool:
    """Whether a capitalised German word is a name: by its spelling, or by the word before it."""
    word = match[0]
    if not word[1:].islower():
        return True
    before = _WORD_BEFORE.search(text, max(0, match.start() - 24), match.start())
    if before is None or word.lower() in _GERMAN_NAME_FOLLOWS or _GERMAN_NOUN.fullmatch(word) is not None:
        return False
    return before[1].lower() in _GERMAN_NAME_FOLLOWS or before[1] in found


def speaker_of(text: str) -> str:
    """Return the speaker named at a text's beginning, in lower case: `Ada: ...`, or `Ada, 8 May 2023: ...`."""
    label = _LABEL.match(text)
    return " ".join(words_of_names(label[1])) if label else ""


def words_of_names(text: str) -> list[str]:
    """The words of `text` in lower case, of a possessive the name."""
    return [word.removesuffix("'s") for word in WORD.findall(text.lower().replace("’", "'"))]


def _paragraphs(text: str) -> Iterator[Sentence]:
    """Lines, except that fenced code is one piece and a line that flows on into the next is one with it."""
    fence = ""
    start = end = 0
    line = 0
    for number, match in enumerate(_LINE.finditer(text)):
        if not match[0]:
            break
        opening = _FENCE.match(match[0])
        flows_on = not fence and opening is None and end > start and _flows_on(text[start:end], match[0])
        if not fence and not flows_on:
            yield from _piece(text, start, end, line, code=False)
            start = match.start()
        end, line = match.end(), number
        if fence:
            if opening is not None and opening[1].startswith(fence):
                yield from _piece(text, start, end, line, code=True)
                start, fence = end, ""
        elif opening is not None:
            fence = opening[1]
    yield from _piece(text, start, end, line, code=bool(fence))


def _flows_on(before: str, after: str) -> bool:
    """Whether a hard-wrapped line goes on: the next starts small and this one has no end."""
    first = after.lstrip()[:1]
    return (
        (first.islower() or first in "(,;")
        and bool(before.strip())
        and len(before) < SENTENCE_CHARS_MAX
        and _ENDED.search(before.rstrip()) is None
        and _BULLET.match(after.lstrip()) is None
    )


def _piece(text: str, start: int, end: int, line: int, *, code: bool) -> Iterator[Sentence]:
    stripped = text[start:end].strip()
    if stripped:
        yield Sentence(text.index(stripped, start), stripped, line, code)


def _sentences(paragraph: Sentence) -> Iterator[Sentence]:
    if paragraph.code:
        yield paragraph
        return
    text = paragraph.text
    start = 0
    for stop in _END.finditer(text):
        if _is_end(text, start, stop):
            yield from _bounded(paragraph, start, stop.end())
            start = stop.end()
    yield from _bounded(paragraph, start, len(text))


def _is_end(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether this stop ends the sentence that began at `start`, and is no abbreviation, initial or ordinal."""
    if not stop[0].startswith(".") or stop[0][-1] in '"”':
        return True
    word = _BEFORE_STOP.search(text, max(start, stop.start() - 12), stop.start())
    if word is None or stop[0].startswith(".."):
        return word is not None
    if word[0].isdigit():
        return word.start() != start and not _is_ordinal(text, word, stop)
    lowered = word[0].lower()
    if lowered in _ABBREVIATIONS:
        return False
    single = len(word[0]) == 1
    if single and (word[0].isupper() or word.start() == start):
        return False
    return not ((single or lowered in _ABBREVIATIONS_AT_ENDS) and _goes_on(text, stop))


def _goes_on(text: str, stop: re.Match[str]) -> bool:
    """Whether a small letter, a digit, or another single letter with a stop follows, as in "z. B."."""
    after = _NEXT.match(text, stop.end())
    return after is not None and (after[1].islower() or after[1].isdigit() or after[2] is not None)


def _is_ordinal(text: str, number: re.Match[str], stop: re.Match[str]) -> bool:
    """Whether a number with a stop is an ordinal, as in "am 3. Juni", "3. und 4. Mai" or "im 2. Stock"."""
    if len(number[0]) > _ORDINAL_DIGITS_MAX:
        return False
    after = _NEXT.match(text, stop.end())
    if after is not None and after[1].islower():
        return True
    if _GERMAN_MONTH.match(text, stop.end()) is not None:
        return True
    before = _BEFORE_ORDINAL.search(text, max(0, number.start() - 12), number.start())
    counted = _SHARED_MONTH.match(text, stop.end()) or (before and _NOUN.match(text, stop.end()))
    return bool(counted) and language_of(text, _distinct_words(text)).capitalises_nouns


def _bounded(paragraph: Sentence, start: int, end: int) -> Iterator[Sentence]:
    text = paragraph.text
    while start < end:
        while start < end and text[start].isspace():
            start += 1
        cut = end
        if end - start > SENTENCE_CHARS_MAX:
            space = text.rfind(" ", start, start + SENTENCE_CHARS_MAX)
            cut = space if space > start else start + SENTENCE_CHARS_MAX
        piece = text[start:cut].rstrip()
        if piece:
            yield Sentence(paragraph.start + start, piece, paragraph.line)
        start = cut
