"""The closing figures of a replay, computed from what its turns saw, and the checks that they must pass.

As JSON (`REPORT=FILE`), field names are stable; a figure that is added gets a new name. The file holds `format` (1),
`passed` and `conversations`; each conversation holds:

    conversation, session_id           what was replayed, and where to look at it
    model, counted_as                  who answered, and the model whose tokenizer counted
    turns, pages                       turns replayed, pages appended
    tokens_seen                        of all messages together
    tokens_sent                        of all prompts together
    tokens_without_paging              what the same prompts had taken with the whole conversation in each
    budget_tokens                      no prompt may be larger
    largest_prompt_tokens              by the replay's own count
    count_difference_tokens            largest difference to the service's own count
    faults                             `total`, `by_reason`, `by_source_tier`, `largest_on_a_recall_turn`
    recalled                           pages that the service brought into first prompts for the user's words
    searches, evictions, compressions  how often
    refused_calls                      tool calls that were refused, by error
    repeated_calls                     calls that were sent again because a service was away
    recall                             `questions`, `correct`, `topics`, `evidence_share` (pages shown or cited), and
                                       one entry a question in `answers`
    thrash_index                       the service's: faults that undid a recent eviction, over all faults (4 at least)
    calls                              by name: `count`, `p50_ms`, `p95_ms`
    checks                             `name`, `passed`, `detail`
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from demo.replay.records import RecallSeen, TurnSeen

FORMAT: Final = 1
FAULTS_ON_A_RECALL_TURN_MAX: Final = 2
THRASH_INDEX_LIMIT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, whether it does, and the figures that say so."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """Pages that tool calls brought in; a page that was there already is not one."""

    total: int
    by_reason: dict[str, int]
    by_source_tier: dict[str, int]
    largest_on_a_recall_turn: int


@dataclass(frozen=True, slots=True)
class RecallAnswer:
    """One recall question."""

    turn: int
    topic: str
    question: str
    reply: str
    expected: tuple[str, ...]
    evidence: tuple[str, ...]
    shown: tuple[str, ...]
    cited: tuple[str, ...]
    correct: bool
    faults: int


@dataclass(frozen=True, slots=True)
class RecallFigures:
    """All recall questions."""

    questions: int
    correct: int
    topics: tuple[str, ...]
    evidence_share: float
    answers: tuple[RecallAnswer, ...]


@dataclass(frozen=True, slots=True)
class CallFigures:
    """One kind of call."""

    count: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """See the head of this module."""

    conversation: str
    session_id: str
    model: str
    counted_as: str
    turns: int
    pages: int
    tokens_seen: int
    tokens_sent: int
    tokens_without_paging: int
    budget_tokens: int
    largest_prompt_tokens: int
    count_difference_tokens: int
    faults: FaultFigures
    recalled: int
    searches: int
    evictions: int
    compressions: int
    refused_calls: dict[str, int]
    repeated_calls: int
    recall: RecallFigures
    thrash_index: float
    calls: dict[str, CallFigures]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The replayed conversation, its session, and the service's closing figures."""

    conversation: str
    session_id: str
    model: str
    counted_as: str
    budget_tokens: int
    thrash_index: float


def report_on(replayed: Replayed, turns: Sequence[TurnSeen]) -> Report:
    """The closing figures of at least one turn."""
    recall = _recall(turns)
    faults = _faults(turns, recall)
    largest_prompt = max((size for turn in turns for size in turn.prompt_tokens), default=0)
    return Report(
        conversation=replayed.conversation,
        session_id=replayed.session_id,
        model=replayed.model,
        counted_as=replayed.counted_as,
        turns=len(turns),
        pages=sum(turn.appended for turn in turns),
        tokens_seen=sum(turn.seen_tokens for turn in turns),
        tokens_sent=sum(sum(turn.prompt_tokens) for turn in turns),
        tokens_without_paging=_tokens_without_paging(turns),
        budget_tokens=replayed.budget_tokens,
        largest_prompt_tokens=largest_prompt,
        count_difference_tokens=max((abs(turn.prompt_tokens[0] - turn.service_tokens) for turn in turns), default=0),
        faults=faults,
        recalled=sum(turn.recalled for turn in turns),
        searches=sum(turn.searches for turn in turns),
        evictions=sum(turn.evicted for turn in turns),
        compressions=sum(turn.compressed for turn in turns),
        refused_calls=dict(Counter(error for turn in turns for error in turn.refused_calls)),
        repeated_calls=sum(turn.repeated for turn in turns),
        recall=recall,
        thrash_index=replayed.thrash_index,
        calls=_calls(turns),
        checks=tuple(_checks(replayed, largest_prompt, faults, recall)),
    )


def write_json(path: Path, reports: Sequence[Report]) -> None:
    """Write the closing figures for programs."""
    content = {
        "format": FORMAT,
        "passed": all(report.passed for report in reports),
        "conversations": [asdict(report) | {"passed": report.passed} for report in reports],
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _recall(turns: Sequence[TurnSeen]) -> RecallFigures:
    answers = tuple(_answer(turn, turn.recall) for turn in turns if turn.recall is not None)
    evidence = [page_id in {*answer.shown, *answer.cited} for answer in answers for page_id in answer.evidence]
    return RecallFigures(
        questions=len(answers),
        correct=sum(answer.correct for answer in answers),
        topics=tuple(dict.fromkeys(answer.topic for answer in answers)),
        evidence_share=sum(evidence) / len(evidence) if evidence else 0.0,
        answers=answers,
    )


def _answer(turn: TurnSeen, recall: RecallSeen) -> RecallAnswer:
    return RecallAnswer(
        turn=turn.number,
        topic=recall.topic,
        question=recall.question,
        reply=recall.reply,
        expected=recall.expected,
        evidence=recall.evidence,
        shown=recall.shown,
        cited=recall.cited,
        correct=recall.correct,
        faults=sum(fault.promoted for fault in turn.faults),
    )


def _faults(turns: Iterable[TurnSeen], recall: RecallFigures) -> FaultFigures:
    faults = [fault for turn in turns for fault in turn.faults if fault.promoted]
    return FaultFigures(
        total=len(faults),
        by_reason=dict(Counter(fault.reason for fault in faults)),
        by_source_tier=dict(Counter(fault.source_tier for fault in faults)),
        largest_on_a_recall_turn=max((answer.faults for answer in recall.answers), default=0),
    )


def _tokens_without_paging(turns: Sequence[TurnSeen]) -> int:
    """Each prompt with everything said so far in it."""
    seen = total = 0
    for turn in turns:
        seen += turn.seen_tokens
        total += seen * len(turn.prompt_tokens)
    return total


def _calls(turns: Iterable[TurnSeen]) -> dict[str, CallFigures]:
    took: dict[str, list[float]] = {}
    for turn in turns:
        for call in turn.calls:
            took.setdefault(call.name, []).append(call.took_ms)
    return {
        name: CallFigures(len(times), _quantile(sorted(times), 0.5), _quantile(sorted(times), 0.95))
        for name, times in took.items()
    }


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return round(ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)], 3)


def _checks(replayed: Replayed, largest_prompt: int, faults: FaultFigures, recall: RecallFigures) -> Iterable[Check]:
    budget = replayed.budget_tokens
    yield Check("prompt_within_budget", largest_prompt <= budget, f"largest {largest_prompt:,} of {budget:,} tokens")
    fixed = [answer for answer in recall.answers if answer.expected]
    if fixed:
        missed = [f"{answer.topic} (turn {answer.turn})" for answer in fixed if not answer.correct]
        detail = f"{len(fixed) - len(missed)} of {len(fixed)} with the right answer and citation"
        yield Check("decisions_recalled", not missed, detail + (f"; missed {', '.join(missed)}" if missed else ""))
    if recall.answers:
        most = faults.largest_on_a_recall_turn
        detail = f"at most {most}, {FAULTS_ON_A_RECALL_TURN_MAX} allowed"
        yield Check("faults_on_recall_turns", most <= FAULTS_ON_A_RECALL_TURN_MAX, detail)
    thrash = replayed.thrash_index
    yield Check("thrash_index", thrash < THRASH_INDEX_LIMIT, f"{thrash:.2f}, under {THRASH_INDEX_LIMIT} required")
