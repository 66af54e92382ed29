"""Which words of an English sentence can go without its facts going with them, and which sentences are English.

Only words are judged here, by themselves or with their neighbours; no dictionary is looked up that could differ between
machines. What is dropped answers no question: articles, auxiliaries, the speaker's own pronouns, fillers, intensifiers.
Negations, modality, other persons, directions in time and place stay.
"""

from collections.abc import Sequence
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _by_first(*phrases: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    split = [tuple(phrase.split()) for phrase in phrases]
    return {
        first: tuple(sorted((phrase for phrase in split if phrase[0] == first), key=len, reverse=True))
        for first in {phrase[0] for phrase in split}
    }


DROPPED: Final = _words(
    """
    a an the
    am is are was were be been being i'm we're it's that's there's here's what's who's
    have has had having do does did doing i've we've i'd we'd i'll we'll it'll that'll
    i me my mine myself we us our ours ourselves it its itself this that these those there here which who whom whose
    your yours any own huh how's where's when's
    of to for with at in on by about into as onto
    and so then also too but while when where what how
    really very just quite actually definitely totally absolutely basically literally certainly simply truly super
    honestly obviously extremely incredibly completely entirely highly particularly especially rather fairly
    ever else some such
    can gonna wanna gotta
    """
)
INTERJECTIONS: Final = _words(
    """
    hey hi hello hiya yo wow whoa woah oh ooh oof ah aww aw haha hahaha lol yeah yep yup ok okay anyway thanks thank thx
    please cheers bye goodbye congrats congratulations hmm hm um uh gosh omg btw plus certainly absolutely definitely
    """
)
"""Dropped at the beginning of a clause, ..."""
EXCLAMATIONS: Final = _words(
    """
    sure well right totally exactly indeed awesome great cool nice wonderful amazing fantastic perfect lovely sorry
    """
)
"""... and these where they are all of it."""

_PHRASES: Final = _by_first(
    *(
        "can you",
        "could you",
        "did you",
        "do you",
        "have you",
        "are you",
        "were you",
        "you can",
        "what about",
        "how about",
    ),
    *("you know", "i mean", "let me know", "feel free to", "of course", "by the way", "kind of", "sort of", "so much"),
    *("keep it up", "you've got this", "you got this"),
)
PHRASE_BEGINNINGS: Final = frozenset(_PHRASES)

CHATTER: Final = _words(
    """
    great awesome amazing cool nice wonderful fantastic good lovely sweet perfect best sounds sound looks look seems
    way keep going up job luck agree true exactly indeed anything anytime later soon talk chat see hear hope catch care
    take know wait can't thanks thank think you yourself go be sure idea all no worries me
    """
)
"""A sentence of these alone keeps a conversation going and says nothing; ..."""
FEELINGS: Final = _words("glad happy excited proud thrilled sorry stoked")
"""... nor does one with these, unless the speaker says how it is with him or her."""
SPEAKERS: Final = _words("i i'm i've am we we're feel feeling felt")
LISTENERS: Final = _words("you you're your hear")

COMMONPLACE: Final = _words(
    """
    like make makes made making get got keep going go goes went know see seeing saw look looks looking lot way thing
    things something anything everything time times last one ones people good great best better awesome amazing cool
    nice special important happy sure always never mean means feel feels feeling felt want wanted need help helps
    helping take taking took taken give gives giving gave come came coming think thinking thought find found work works
    working try trying tried talk talked say said tell told show shows showing love loves loved day days long much more
    all other others together back up out off over down around through from after since still they them their he him his
    she her hers like even cause because before don't can't not no now been each part put really hard tough true fun
    glad hope hear bring brings let start started stay life able enjoy share sharing using since use two big little new
    old first next every few many inspiring finally kinda stuff bit seems seem appreciate excited proud wait moment
    moments key support truly such lucky perfect beautiful wonderful fantastic reminder remind between if or
    """
)
"""Words that are in most conversations, and so tell little of any."""

_ENGLISH: Final = _words(
    """
    the and of to is i you that it with are this have my not but they his she her your we what i'm it's that's don't
    i've how if from would there been has had their our for be can a them they're you're we're you've i'll i'd at by
    about very just really out up who which when where why could should did does doesn't didn't can't get got
    thanks great
    """
)
_FOREIGN: Final = (
    _words(
        """
        der die das und ist nicht ich ein eine zu den mit sich auf für dem wir sie von im auch wie oder aber haben wird
        le la les et est je ne pas un une des du que qui dans pour sur avec nous vous il elle au ce cette mais sont
        el los las es se del por con su para como más pero lo mi está muy al
        di che è non per sono della gli nel questo anche ho più io
        os em um uma com mais você eu
        het een en van ik niet dat op te zijn met voor er maar wij
        och att det som jag är inte på av till har og jeg ikke af
        nie że się jest na do jak ale tak bir ve bu için çok ben da yang dan ini itu dengan untuk tidak saya dari
        """
    )
    - _ENGLISH
    - DROPPED
)


def phrase_length(cores: Sequence[str], position: int) -> int:
    """How many words from `position` on make a phrase that goes as a whole; 0 for none."""
    for phrase in _PHRASES.get(cores[position], ()):
        if tuple(cores[position : position + len(phrase)]) == phrase:
            return len(phrase)
    return 0


def is_chatter(cores: Sequence[str]) -> bool:
    """Whether a sentence of these words only keeps a conversation going."""
    spoken = set(cores)
    own = not spoken.isdisjoint(SPEAKERS) and spoken.isdisjoint(LISTENERS)
    return all(
        core in CHATTER
        or core in DROPPED
        or core in INTERJECTIONS
        or core in EXCLAMATIONS
        or (core in FEELINGS and not own)
        for core in spoken
        if core
    )


def english_balance(cores: Sequence[str]) -> int:
    """How many more common English words there are than common words of other languages in the Latin script."""
    return sum([core in _ENGLISH for core in cores]) - sum([core in _FOREIGN for core in cores])
