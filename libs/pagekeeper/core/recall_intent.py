"""Whether a user's words ask for something that was said before, and how much of a prompt that may take.

The intent is read from the words alone, before anything is searched. Most messages need nothing that the prompt does
not show; what is recalled for nothing is paid for and is not in the provider's cache. A message that is one question
and nothing else is about the world or about what was said; a message that brings a text, a state or a plan with it
needs the past less. The intent is a guess: the model can still fault in what the guess misses.
"""

import re
from enum import IntEnum
from typing import Final

READ_CHARS_MAX: Final = 600
"""Of the beginning and of the end: what lies between in a long message is pasted, and asks nothing."""
RECALL_TURNS_WINDOW: Final = 32
"""Turns that share one room for recall. With n recall turns before it in this window, a recall turn may take
`max(RECALL_TOKENS_MIN, budget * RECALL_TURNS_WINDOW / TURN_SHARE) / (1 + n)` tokens."""
TURN_SHARE: Final = 128
"""One part in so many of a prompt may be recalled pages, averaged over turns: recalled pages stand behind everything
that a provider caches."""
RECALL_TOKENS_MIN: Final = 8_192
"""What a recall turn alone in its window may take of a small budget."""
QUESTION_SHARE: Final = 256
QUESTION_TOKENS_MIN: Final = 128
"""Any other question may take `max(QUESTION_TOKENS_MIN, budget / QUESTION_SHARE)` tokens."""

_RECALLING: Final = re.compile(
    r"\b(?:remember\w*|recall\w*|remind (?:me|us)|as (?:we|i|you) (?:said|decided|agreed|discussed)|earlier|previously"
    r"|last time|back then|erinner\w*|vorhin|damals|letztes mal|rappel\w*|souvien\w*|la dernière fois|tout à l'heure"
    r"|recuerd\w*|acuerd\w*|la última vez|lembr\w*|ricord\w*|pamięt\w*|hatırla\w*)\b"
    r"|помн|нагада|пам.?ята|раньше|раніше|记得|記得|之前|以前|上次|说过|說過|覚えて|前回|先ほど|기억|지난번",
    re.IGNORECASE,
)
"""Words that ask for the past in any sentence."""

_PAST: Final = re.compile(
    r"\b(?:decided|decision|agreed|concluded|settled|mentioned|told|said|discussed|talked|promised|planned|chose|chosen"
    r"|picked|(?:what|which|where|who|why|how) (?:was|were|did)|when (?:did|was|were)|did (?:we|i|you|they|he|she)"
    r"|have (?:we|i|you)|had (?:we|i|you)|früher|beschlossen|entschieden|vereinbart|gesagt|erwähnt|décidé\w*|convenu\w*"
    r"|mentionné\w*|decidi\w*|acordamos|dijiste|dijimos|mencion\w*|combinamos|deciso|detto|ustalili\w*"
    r"|zdecydowa\w*)\b"
    r"|решил|вирішил|договори|домовил|原来|决定|決定|決めた|결정",
    re.IGNORECASE,
)
"""Words that ask for the past in a question; in a statement they tell of it."""

_MARK: Final = re.compile("[?\uff1f\u061f\u037e]")
_ASKING: Final = re.compile(
    r"^\W*(?:who|whom|whose|what|which|when|where|why|how|wer|wann|welche\w*|warum|qui|quand|quel\w*|pourquoi"
    r"|quién|cuándo|cuál|dónde|кто|когда|коли|який|какой|почему|чому)\b",
    re.IGNORECASE,
)
_OF_THIS_CONVERSATION: Final = re.compile(
    r"\b(?:(?:our|this|these|past|previous|my) (?:\w+ ){0,2}(?:conversations?|chats?|discussions?|sessions|messages"
    r"|requests|questions)|brought up|bring up|(?:summar\w+|recap|overview) (?:\w+ ){0,6}(?:i|we|my|our|i've|we've))\b",
    re.IGNORECASE,
)
"""What a question asks the conversation itself for. English only."""
_FOR_HELP: Final = re.compile(
    r"\bhow (?:do|can|should|could|would|might) (?:i|we|you)\b|\b(?:can|could|would|will) you (?!tell\b|list\b|summar)"
    r"|\b(?:should|can|could|shall|may) (?:i|we)\b|\b(?:do|will) (?:i|we) (?:need|have to)\b"
    r"|\bwhat (?:should|would|could|can|if|about|happens if|do you)\b|\bbest way\b|\bis it (?:ok|possible|better)\b"
    r"|^\W*(?:i|we)\b",
    re.IGNORECASE,
)
"""What a question begins with that is after something new: advice, or something done. English only."""
_BETWEEN_SENTENCES: Final = re.compile(
    r"(?<=[.!?…])(?<!\b[A-Z]\.)(?<!\b[A-Z][a-z]\.)(?=[\"”»’')\]]*\s)|(?<=[。！？؟])|\n"
)
_SAYING: Final = re.compile(r"\w\w")
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


class RecallIntent(IntEnum):
    """How much the words ask for the past."""

    NONE = 0
    QUESTION = 1
    RECALL = 2


def recall_intent_of(words: str) -> RecallIntent:
    """The strongest intent that the message's beginning and end show."""
    read = words if len(words) <= 2 * READ_CHARS_MAX else f"{words[:READ_CHARS_MAX]}\n{words[-READ_CHARS_MAX:]}"
    if _RECALLING.search(read) is not None:
        return RecallIntent.RECALL
    sentences = [sentence for sentence in _BETWEEN_SENTENCES.split(read) if _SAYING.search(sentence) is not None]
    asking = [sentence for sentence in sentences if _MARK.search(sentence) is not None]
    if not asking and _ASKING.search(read) is not None:
        asking = sentences[:1]
    if any(_PAST.search(one) is not None or _OF_THIS_CONVERSATION.search(one) is not None for one in asking):
        return RecallIntent.RECALL
    if len(sentences) == len(asking) == 1 and _FOR_HELP.search(asking[0]) is None:
        return RecallIntent.RECALL
    return RecallIntent.QUESTION if asking else RecallIntent.NONE


def recall_room(intent: RecallIntent, budget_tokens: int, fault_tokens_max: int, calls_before: int = 0) -> int:
    """Tokens that recalled pages may take of a budget when every resident page has its place.

    `calls_before` counts the recall turns among the `RECALL_TURNS_WINDOW` turns before this one. A recall turn that
    comes alone may take what all these turns may together; when every turn recalls, each has its own share. Never more
    than `fault_tokens_max`, what a turn's faults may bring.
    """
    match intent:
        case RecallIntent.RECALL:
            together_tokens = max(RECALL_TOKENS_MIN, budget_tokens * RECALL_TURNS_WINDOW // TURN_SHARE)
            return min(fault_tokens_max, together_tokens // (1 + calls_before))
        case RecallIntent.QUESTION:
            return min(fault_tokens_max, max(QUESTION_TOKENS_MIN, budget_tokens // QUESTION_SHARE))
        case RecallIntent.NONE:
            return 0


def asks_what_the_model_said(words: str) -> bool:
    """Whether a message is after the model's own words. English only."""
    return _OF_THE_MODEL.search(words) is not None


def subject_of(words: str) -> str:
    """Return a message's subject: its words without those about the conversation; all when hardly any would be left.

    English only. A mean of word vectors would point to the middle between the two.
    """
    subject = _OF_CONVERSING.sub(" ", words)
    return subject if len(_WORD.findall(subject)) >= _SUBJECT_WORDS_MIN else words


def is_standing_wish(words: str) -> bool:
    """Whether a user says how things are to be done from now on. English only."""
    return _WISH.search(words) is not None
