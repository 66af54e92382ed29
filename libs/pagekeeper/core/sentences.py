"""Text as sentences, and what each of them says: the ground that hints and compressors stand on.

Invariant: every sentence is a slice of its text, in order, and what lies between sentences is white space alone.
Splitting and judging are deterministic and need no model. Nothing here rewrites: what is kept is kept word for word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SENTENCE_CHARS_MAX: Final = 1_000
"""Longer runs without an end (minified code, base64) are cut at white space, or hard when there is none."""
FILLER_WORDS_MAX: Final = 6
"""A sentence that begins like filler and says more than this is none."""

_FENCE: Final = re.compile(r"[ \t]*(```+|~~~+)")
# No pattern here looks at a character more than a few times, whatever the text: pages are anyone's, and may be large.
_END: Final = re.compile(r"""(?<![.!?…])[.!?…]++["'”’)\]*_]*+(?=\s)|[。！？]++[”’」』）]*""")
_LINE: Final = re.compile(r"[^\n]*\n?")
_BULLET: Final = re.compile(r"(?:[-*+•–]|\d{1,3}[.)]|[a-z][.)])\s")
_ENDED: Final = re.compile(r"""[.!?…:;。！？|]["'”’)\]*_]*$""")
_BEFORE_STOP: Final = re.compile(r"[^\s(\[\"'“‘]+$")
_ABBREVIATIONS: Final = _words(
    """
    mr mrs ms dr prof sr jr st vs etc e.g i.e eg ie approx no nos fig eq inc ltd co corp jan feb mar apr jun jul aug
    sep sept oct nov dec dept est max min tel a.m p.m u.s u.k
    """
)

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
_FILLER: Final = re.compile(
    r"\W*(?:hey|hi|hello|hiya|good (?:morning|evening|afternoon|night)|bye|goodbye|take care|see (?:you|ya)"
    r"|talk (?:to you )?soon|wow|oh|ah|aww*|haha\w*|lol|yay|yeah|yep|yes|nope?|sure|ok|okay|alright|right|exactly"
    r"|absolutely|definitely|totally|of course|certainly|great|awesome|amazing|cool|nice|perfect|wonderful|fantastic"
    r"|excellent|lovely|sounds \w+|thanks?|thank you|you['’]?re welcome|no (?:problem|worries)|my pleasure|glad"
    r"|that(?:['’]s| is| sounds) (?:so |really |very |such )?(?:a )?(?:great|awesome|amazing|cool|nice|wonderful"
    r"|fantastic|lovely|good|super)|happy to|congrat\w*|good (?:luck|job|for)|(?:what|how) about you|and you"
    r"|how(?:['’]s| is| are|['’]re) (?:it|you|things|everything)|what['’]?s up|i hope|let me know|feel free"
    r"|if you (?:have|need|want)|don['’]?t hesitate|keep (?:it )?up|can['’]?t wait"
    r"|(?:i['’]?m |i am )?so (?:happy|proud|excited|glad)"
    r"|i(?:['’]?m| am) (?:really )?(?:glad|happy|sorry) (?:to hear|for you|you))\b",
    re.IGNORECASE,
)

STOPWORDS: Final = _words(
    """
    a about above after again all also am an and any are aren't as at be been before being below between both but by
    can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from further get
    got had hadn't has hasn't have haven't having he he's her here hers herself him himself his how i i'd i'll i'm
    i've if in into is isn't it it's its itself just let's like me more most my myself no nor not now of off on once
    only or other our ours ourselves out over own really same she she's should shouldn't so some such than that
    that's the their theirs them themselves then there there's these they they're this those through to too under
    until up us very was wasn't we we're we've were weren't what what's when where which while who who's whom whose
    why will with won't would wouldn't yes you you'd you'll you're you've your yours yourself yourselves please tell
    know thing things something anything ever
    """
)
_ENDINGS: Final = _words("ll ve re em")
"""What is left of a capitalised `I'LL` behind its apostrophe."""
_NUMBER_WORDS: Final = _words(
    """
    two three four five six seven eight nine ten eleven twelve dozen twenty thirty forty fifty hundred thousand
    million billion half twice third january february march april june july august september october november
    december monday tuesday wednesday thursday friday saturday sunday yesterday tomorrow tonight today weekend ago
    """
)
_PRAISE: Final = _words(
    """
    awesome amazing great cool nice wonderful fantastic inspiring proud glad happy excited love lovely important special
    super totally good best way lot make makes feel keep going wow hey thanks yeah definitely sure sounds hope agree
    """
)
_SAYS_NOTHING: Final = STOPWORDS | _PRAISE
_DECISION_WORDS: Final = _words(
    """
    decide decided decision agree agreed chose choose chosen picked settled conclude concluded conclusion approve
    approved reject rejected confirm confirmed cancel cancelled canceled must shall deadline due require required
    requires requirement never always instead because therefore cause prefer preferred prefers favorite favourite
    plan plans planned promise promised allergic born married moved bought started joined signed changed switched
    budget goal rule policy will won't going want wanted named called
    """
)
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
    """What a sentence says that is worth its tokens."""

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


def facts_of(text: str) -> Facts:
    text = _ADDRESS.sub("", text)
    return _facts(text, _distinct_words(text))


def telling_percent_of(text: str) -> int:
    """From 0 to 100: how likely a message is asked for later, by the facts that its beginning has.

    By the square, because what is rich in facts is asked for far more often than what is not.
    """
    text = _ADDRESS.sub("", text[:JUDGED_CHARS])
    words = _distinct_words(text)
    # Most messages of some length have enough by their words alone, more than any opening of filler could take away.
    if len(words - _SAYS_NOTHING) >= FULL_WEIGHT and not _is_question(text):
        return 100
    full = min(1.0, _facts(text, words).weight / FULL_WEIGHT)
    return round(100 * full * full)


def _facts(text: str, words: set[str]) -> Facts:
    content = len(words - _SAYS_NOTHING)
    return Facts(
        numbers=len(_NUMBER.findall(text)) + len(words & _NUMBER_WORDS),
        names=len(names_in(text)),
        identifiers=len(_IDENTIFIER.findall(text)) if _IN_IDENTIFIER.search(text) else 0,
        decisions=len(words & _DECISION_WORDS),
        content_words=content,
        filler=content == 0 or is_filler(text),
        question=_is_question(text),
    )


def _distinct_words(text: str) -> set[str]:
    return set(WORD.findall(text.lower().replace("’", "'")))


def _is_question(text: str) -> bool:
    return text.rstrip().endswith(("?", "？"))


def is_filler(text: str) -> bool:
    """Whether a sentence only keeps a conversation going: a greeting, thanks, an exclamation."""
    match = _FILLER.match(text)
    return match is not None and len(set(WORD.findall(text[match.end() :].lower())) - STOPWORDS) < FILLER_WORDS_MAX


def names_in(text: str) -> list[str]:
    """Capitalised words and acronyms, each once, in order; a first word only when it is one inside the sentence too.

    A heuristic for scripts with capitals; others have no names here, and their words count as content.
    """
    found: dict[str, None] = {}
    for match in _NAME.finditer(text):
        word = match[0]
        opens = match.start() == 0 or not text[match.start() - 1].isspace() or text[match.start() - 2] in ".!?:。！？"
        ending = word.lower() in _ENDINGS and text[match.start() - 1 : match.start()] in ("'", "’")
        if (not opens or word.isupper()) and not ending and word.lower() not in STOPWORDS:
            found.setdefault(word)
    return list(found)


def speaker_of(text: str) -> str:
    """Who speaks, in lower case, where a text says so at its beginning: `Ada: ...`, or `Ada, 8 May 2023: ...`."""
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
    """Whether this stop ends the sentence that began at `start`, and is no abbreviation, initial or list number."""
    if not stop[0].startswith(".") or stop[0][-1] in '"”':
        return True
    word = _BEFORE_STOP.search(text, max(start, stop.start() - 12), stop.start())
    if word is None or stop[0].startswith(".."):
        return word is not None
    single = len(word[0]) == 1 and (word[0].isupper() or word.start() == start)
    listed = word.start() == start and word[0].isdigit()
    return not single and not listed and word[0].lower() not in _ABBREVIATIONS


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
