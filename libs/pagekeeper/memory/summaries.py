"""Summaries of segments whose messages have left the prompt, made without a model.

Invariant: nothing is rephrased. A summary is sentences of the messages, word for word, so it says nothing that was not
said; strategies differ in which sentences they keep and how they order them. It takes at most `SUMMARY_TOKENS_MAX`
tokens and is never empty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from pagekeeper.core.compress.topics import topics
from pagekeeper.core.languages import STOPWORDS
from pagekeeper.core.sentences import WORD, Facts, facts_of, split_sentences

__all__ = ["SummarizationStrategy"]

SUMMARY_TOKENS_MAX: Final = 800
OVERVIEW_SHARE: Final = 0.3
"""What a general summary takes of the segment's tokens."""
TOPICS_MAX: Final = 6
SENTENCES_PER_TOPIC: Final = 2
CONTENT_WORDS_MIN: Final = 2

Message = Mapping[str, str]
"""`role` and `content`, as chat models take them."""


class SummarizationStrategy(StrEnum):
    """The purpose of a summary."""

    BASIC = "basic"
    KEY_POINTS = "key_points"
    TOPIC_BASED = "topic_based"
    QUERY_FOCUSED = "query_focused"

    @property
    def prompt(self) -> str:
        """Return the instruction for a language model that summarises instead."""
        return _PROMPTS[self]


_PROMPTS: Final = {
    SummarizationStrategy.BASIC: (
        "Write a concise summary of this conversation: what it was about, and every fact and decision that may matter "
        "later, with names and numbers as they were said."
    ),
    SummarizationStrategy.KEY_POINTS: (
        "List the key points of this conversation, one a line: facts, decisions, open questions. Keep names and "
        "numbers as they were said."
    ),
    SummarizationStrategy.TOPIC_BASED: (
        "Summarise this conversation by topics: name each topic, and under it what was said and decided about it."
    ),
    SummarizationStrategy.QUERY_FOCUSED: (
        "Summarise this conversation by the user's questions: each question, and the answer that it was given."
    ),
}


def summarize(messages: Sequence[Message], strategy: SummarizationStrategy, count: Callable[[str], int]) -> str:
    """The messages' summary; `count` answers the tokens of a text."""
    summary = _fitting(_lines(messages, strategy, count), count) or _fitting(_overview(messages, count), count)
    while count(summary) > SUMMARY_TOKENS_MAX:
        summary = summary[: len(summary) // 2]
    return summary or f"{len(messages)} messages that say nothing to keep."


def _lines(messages: Sequence[Message], strategy: SummarizationStrategy, count: Callable[[str], int]) -> Iterable[str]:
    match strategy:
        case SummarizationStrategy.BASIC:
            return _overview(messages, count)
        case SummarizationStrategy.KEY_POINTS:
            return (f"- {point}" for point in _key_points(messages))
        case SummarizationStrategy.TOPIC_BASED:
            return _by_topic(messages)
        case SummarizationStrategy.QUERY_FOCUSED:
            return _by_question(messages)


def _texts(messages: Iterable[Message]) -> list[str]:
    return [message["content"] for message in messages]


def _statements(messages: Iterable[Message]) -> dict[str, Facts]:
    """Sentences that say something, each once, in order."""
    said = {sentence.text: facts_of(sentence.text) for text in _texts(messages) for sentence in split_sentences(text)}
    return {sentence: facts for sentence, facts in said.items() if _is_statement(facts)}


def _is_statement(facts: Facts) -> bool:
    """Whether there is something in a sentence beside courtesies: `Noted.` is none, nor is a question."""
    return not facts.filler and not facts.question and facts.content_words >= CONTENT_WORDS_MIN


def _key_points(messages: Iterable[Message]) -> list[str]:
    """The weightiest first."""
    statements = _statements(messages)
    return sorted(statements, key=lambda sentence: -statements[sentence].weight)


def _overview(messages: Sequence[Message], count: Callable[[str], int]) -> list[str]:
    """Sentences that say most, in the order in which they were said: a part of everything, and one at least."""
    room_tokens = OVERVIEW_SHARE * sum(count(text) for text in _texts(messages))
    kept: set[str] = set()
    for point in _key_points(messages):
        room_tokens -= count(point)
        if kept and room_tokens < 0:
            break
        kept.add(point)
    return [sentence for sentence in _statements(messages) if sentence in kept]


def _by_topic(messages: Sequence[Message]) -> Iterable[str]:
    weighty, told = _key_points(messages), set[str]()
    for topic in topics("\n".join(_texts(messages)))[:TOPICS_MAX]:
        about = [point for point in weighty if topic in point and point not in told][:SENTENCES_PER_TOPIC]
        told.update(about)
        if about:
            yield f"{topic}: {' '.join(about)}"


def _by_question(messages: Sequence[Message]) -> Iterable[str]:
    for number, message in enumerate(messages):
        questions = [s.text for s in split_sentences(message["content"]) if facts_of(s.text).question]
        if message["role"] == "user" and questions:
            answer = _best_answer(" ".join(questions), messages[number + 1 : number + 2])
            yield f"Q: {' '.join(questions)} A: {answer}" if answer else f"Q: {' '.join(questions)} (open)"


def _best_answer(question: str, reply: Sequence[Message]) -> str:
    """The sentence of the reply that has most to do with the question, and of those the one that says most."""
    asked = _content_words(question)
    statements = _statements([message for message in reply if message["role"] == "assistant"])

    def fitness(sentence: str) -> tuple[int, float]:
        return len(asked & _content_words(sentence)), statements[sentence].weight

    return max(statements, key=fitness, default="")


def _content_words(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text.lower())) - STOPWORDS


def _fitting(lines: Iterable[str], count: Callable[[str], int]) -> str:
    """Lines from the front that fit; the first in any case."""
    kept: list[str] = []
    tokens = 0
    for line in lines:
        tokens += count(f"{line}\n")
        if kept and tokens > SUMMARY_TOKENS_MAX:
            break
        kept.append(line)
    return "\n".join(kept)
