"""Observations of a replay, turn by turn. Values only; `report` computes figures over all turns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultSeen:
    """A page that a tool call brought in. `reason` and `source_tier` are the API's names without their prefix."""

    page_id: str
    reason: str
    source_tier: str
    level: int
    size_tokens: int
    promoted: bool


@dataclass(frozen=True, slots=True)
class RecallSeen:
    """A recall question, what the model answered, and what the right answer is.

    `shown` are the evidence pages that stood before the model word for word, `cited` all pages that the reply cites.
    """

    topic: str
    question: str
    reply: str
    expected: tuple[str, ...]
    evidence: tuple[str, ...]
    shown: tuple[str, ...]
    cited: tuple[str, ...]
    correct: bool


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call of the API or of the model, and how long it took."""

    name: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class TurnSeen:
    """One turn.

    `seen_tokens` are those of the messages of this turn, `l0_tokens` those of the pages in the prompt. `prompt_tokens`
    has one count for every prompt made in this turn, by the replay's own tokenizer; `service_tokens` is what the
    service says of the first of them, and `recalled` how many pages it brought in for the user's words.
    `repeated` counts calls that were sent again because a service was away.
    """

    number: int
    said: str
    seen_tokens: int
    l0_tokens: int
    prompt_tokens: tuple[int, ...]
    service_tokens: int
    appended: int
    faults: tuple[FaultSeen, ...]
    recalled: int
    searches: int
    refused_calls: tuple[str, ...]
    evicted: int
    compressed: int
    repeated: int
    calls: tuple[CallSeen, ...]
    recall: RecallSeen | None
