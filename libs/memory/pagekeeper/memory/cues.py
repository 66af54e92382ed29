"""Whether a user's words ask for something that was said before.

A cue is read from the words alone, before anything is searched: most messages need nothing that the prompt does not
show, and what is brought in for nothing is paid for and displaces the provider's cache. It is a guess, on the generous
side; the model can still fault in what it misses.
"""

import re
from enum import IntEnum
from typing import Final

READ_CHARS_MAX: Final = 600
"""Of the beginning and of the end: what lies between in a long message is pasted, and asks nothing."""
BUDGET_SHARE: Final = 16
"""What is recalled stands behind all that a provider caches: a plain call for the past may bring in this fraction of a
prompt, so that most of it stays cached."""
ROOM_TOKENS_MIN: Final = 2_048
"""Of a small budget more: less would not answer the question."""
QUESTION_SHARE: Final = 8
"""A question may bring in this fraction of what a plain call for the past may."""

_RECALLING: Final = re.compile(
    r"\b(?:remember\w*|recall\w*|remind (?:me|us)|as (?:we|i|you) (?:said|decided|agreed|discussed)|earlier|previously"
    r"|last time|back then|erinner\w*|vorhin|damals|letztes mal|rappel\w*|souvien\w*|la dernière fois|tout à l'heure"
    r"|recuerd\w*|acuerd\w*|la última vez|lembr\w*|ricord\w*|pamięt\w*|hatırla\w*)\b"
    r"|помн|нагада|пам.?ята|раньше|раніше|记得|記得|之前|以前|上次|说过|說過|覚えて|前回|先ほど|기억|지난번",
    re.IGNORECASE,
)
"""Words that call for the past, whatever they stand in."""

_PAST: Final = re.compile(
    r"\b(?:decided|decision|agreed|concluded|settled|mentioned|told|said|discussed|talked|promised|planned|chose|chosen"
    r"|picked|(?:what|which|where|who|why|how) (?:was|were|did)|when (?:did|was|were)|did (?:we|i|you|they|he|she)"
    r"|have (?:we|i|you)|had (?:we|i|you)|früher|beschlossen|entschieden|vereinbart|gesagt|erwähnt|décidé\w*|convenu\w*"
    r"|mentionné\w*|decidi\w*|acordamos|dijiste|dijimos|mencion\w*|combinamos|deciso|detto|ustalili\w*"
    r"|zdecydowa\w*)\b"
    r"|решил|вирішил|договори|домовил|原来|决定|決定|決めた|결정",
    re.IGNORECASE,
)
"""Words of the past that call for it in a question, and tell of it in a statement."""

_ASKING: Final = re.compile(
    r"[?\uff1f\u061f\u037e]|^\W*(?:who|whom|whose|what|which|when|where|why|how|wer|wann|welche\w*|warum|qui|quand|quel\w*|pourquoi"
    r"|quién|cuándo|cuál|dónde|кто|когда|коли|який|какой|почему|чому)\b",
    re.IGNORECASE,
)
_VERBS: Final = "recommend|suggest|say|tell|advise|propose|explain|mention|give|show|write|list|describe|outline|answer"
_PAST_VERBS: Final = (
    "recommended|suggested|said|told|advised|proposed|explained|mentioned|gave|showed|wrote|listed|described|outlined"
    "|answered"
)
_OF_THE_MODEL: Final = re.compile(
    rf"\b(?:did|have|had) you (?:\w+ )?(?:{_VERBS}|{_PAST_VERBS})\b"
    rf"|\byou(?:'d| had|'ve| have)? (?:earlier |once |also )?(?:{_PAST_VERBS})\b"
    r"|\byour (?:earlier |last |previous )?(?:advice|reply|(?:recommendation|suggestion|answer|explanation|proposal)s?)"
    r"\b",
    re.IGNORECASE,
)
_OF_CONVERSING: Final = re.compile(
    r"\b(?:conversations?|chats?|messages|sessions|requests|questions|discuss\w*|mention\w*|brought up|bring up|talked"
    r"|throughout|across|so far|summar\w+|comprehensive|overview|recap|list|order|in which|walk me through|aspects?"
    r"|items?|only|different|provide|give|can you|could you)\b",
    re.IGNORECASE,
)
"""What speaks of the conversation and of the answer wanted, not of what the conversation was about."""
_WORD: Final = re.compile(r"\w{3,}")
_SUBJECT_WORDS_MIN: Final = 2
_WISH: Final = re.compile(
    r"(?:^|[.!?\n]\s{0,8})(?:please )?(?:always|never)\b"
    r"|\bI(?:'d| would)? (?:really |strongly |usually |generally |also )?prefer\b"
    r"|\bmy preference\b|\bfrom now on\b|\b(?:when|whenever|every time|if) I ask\b",
    re.IGNORECASE,
)


class Cue(IntEnum):
    """How much the words ask for the past."""

    NONE = 0
    QUESTION = 1
    RECALL = 2


def cue_of(words: str) -> Cue:
    """The strongest cue in the message's beginning and end."""
    read = words if len(words) <= 2 * READ_CHARS_MAX else f"{words[:READ_CHARS_MAX]}\n{words[-READ_CHARS_MAX:]}"
    asking = _ASKING.search(read) is not None
    if _RECALLING.search(read) is not None or (asking and _PAST.search(read) is not None):
        return Cue.RECALL
    return Cue.QUESTION if asking else Cue.NONE


def recall_room(cue: Cue, budget_tokens: int, fault_tokens_max: int) -> int:
    """Tokens that recalled pages may take of a budget when every resident page has its place.

    Never more than a turn's faults may bring.
    """
    room_tokens = min(fault_tokens_max, max(ROOM_TOKENS_MIN, budget_tokens // BUDGET_SHARE))
    match cue:
        case Cue.RECALL:
            return room_tokens
        case Cue.QUESTION:
            return room_tokens // QUESTION_SHARE
        case Cue.NONE:
            return 0


def asks_what_the_model_said(words: str) -> bool:
    """Whether a message is after the model's own words. English only."""
    return _OF_THE_MODEL.search(words) is not None


def subject_of(words: str) -> str:
    """What a message is about: its words without those of conversing, or all when hardly any would be left.

    English only. A mean of word vectors would point to the middle between the two.
    """
    subject = _OF_CONVERSING.sub(" ", words)
    return subject if len(_WORD.findall(subject)) >= _SUBJECT_WORDS_MIN else words


def is_standing_wish(words: str) -> bool:
    """Whether a user says how things are to be done from now on. English only."""
    return _WISH.search(words) is not None
