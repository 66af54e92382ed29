"""Which pages leave, measured against what is wanted again.

    python -m bench.quality.replacement [--seeds N] [--data FOLDER]

Fault rates are over re-accesses, by count and by their tokens. The gap is the distance to the offline optimum: the
best of three greedy ones for each trace and measure. A fault thrashes when the page left within the last three turns.
Cost is in tokens as a provider charges them: what stayed in place since the last call at 0.1, what is new or comes
after a place where something left at 1.25, and a fault costs one more call. Every access is a call, every call a turn.

Ours evicts as it is shipped: in batches, through the fold. The others evict one page at a time, as little as makes
room. The search for the policy's constants scored seeds 100 to 159 of the agents' families, two of LoCoMo's
conversations (26 and 30) and three of BEAM's chats (1 to 3). The agents' results are of other seeds; the conversations'
are of all, and once more of those that the search did not score. ADR 21 says which choices saw them.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import click

from bench.quality.contenders import (
    GUIDE,
    ONE_BY_ONE,
    ONLINE,
    OPTIMA,
    OURS,
    SIZE_AWARE,
    Contender,
    Fold,
    Key,
    Optimum,
    Oracle,
    as_shipped,
    one_by_one,
)
from bench.quality.plot import draw_bars
from bench.quality.reference_strings import (
    FAMILIES,
    Access,
    ReferenceString,
    agent_trace,
    conversation_trace,
    conversations,
)
from bench.quality.report import Figure, Wanted, show, write
from pagekeeper.core.effects import Evicted
from pagekeeper.core.events import SessionConfig
from pagekeeper.runtime.tokens import EncodingName, tokenizer

SEEDS: Final = 20
GENERATED: Final = 1
MEMORY_SHARES: Final = (0.2, 0.4)
"""Of a conversation, in memory."""
THRASH_TURNS: Final = 3
READ: Final = 0.1
WRITE: Final = 1.25
PIN_EVERY: Final = 25
PINNED_SHARE_MAX: Final = 0.3
GAP_MAX: Final = 0.5
WORSE_MAX: Final = 1.03
CHOSEN_ON: Final = frozenset(("conv-26", "conv-30", "beam-100K-1", "beam-100K-2", "beam-100K-3"))
"""Conversations on which numbers were chosen. What is left of their families is held out."""
OPTIMUM: Final = "optimum"
ORACLE: Final = "oracle"
"""Knows the odds of the next draw, short of the draw itself."""
BEFORE: Final = "reuse/4"
"""The default before, as shipped too."""
BLIND: Final = "ours, blind to hits"
PLOTTED: Final = ("FIFO", "LRU", "ARC", "S3-FIFO", "SIEVE", "W-TinyLFU", GUIDE, "LHD", OURS, ONE_BY_ONE, OPTIMUM)


@dataclass(slots=True)
class Tally:
    """Of one contender, over traces; tokens are those of the re-accessed pages."""

    reaccesses: int = 0
    reaccessed_tokens: int = 0
    faults: int = 0
    faulted_tokens: int = 0
    thrashed: int = 0
    cost: float = 0.0

    def add(self, other: "Tally") -> None:
        for name in Tally.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def rate(self) -> float:
        return self.faults / max(1, self.reaccesses)

    @property
    def token_rate(self) -> float:
        return self.faulted_tokens / max(1, self.reaccessed_tokens)

    @property
    def thrash_index(self) -> float:
        return self.thrashed / max(1, self.faults)


class Prompt:
    """What a contender keeps, in order of admission, and what sending it costs."""

    def __init__(self) -> None:
        self._pages: dict[Key, Access] = {}
        self._left: dict[Key, int] = {}

    def thrashes(self, access: Access) -> bool:
        left = self._left.get((access.page_id, access.version))
        return left is not None and access.turn - left <= THRASH_TURNS

    def send(self, access: Access, contender: Contender, *, hit: bool, fault: bool) -> float:
        """Tokens' worth of the call that `access` was made in."""
        before = sum(page.size_tokens for page in self._pages.values())
        if hit:
            return READ * before
        unbroken, broken = 0, False
        for key, page in list(self._pages.items()):
            if contender.holds(page):
                unbroken += 0 if broken else page.size_tokens
            else:
                broken = True
                self._left[key] = access.turn
                del self._pages[key]
        if contender.holds(access):
            self._pages[access.page_id, access.version] = access
        after = sum(page.size_tokens for page in self._pages.values())
        shown_once = 0 if contender.holds(access) else access.size_tokens
        return READ * unbroken + WRITE * (after - unbroken + shown_once) + (READ * before if fault else 0)


def measured(string: ReferenceString, contender: Contender) -> Tally:
    tally, prompt, seen = Tally(), Prompt(), set[Key]()
    for access in string.accesses:
        hit = contender.access(access)
        again = (access.page_id, access.version) in seen
        seen.add((access.page_id, access.version))
        if again:
            tally.reaccesses += 1
            tally.reaccessed_tokens += access.size_tokens
        if again and not hit:
            tally.faults += 1
            tally.faulted_tokens += access.size_tokens
            tally.thrashed += prompt.thrashes(access)
        tally.cost += prompt.send(access, contender, hit=hit, fault=again and not hit)
    return tally


def optimum(string: ReferenceString) -> Tally:
    """The best of the greedy ones by each measure; cost and thrash are those of the one with the fewest faults."""
    tallies = [measured(string, Optimum(string.accesses, string.memory_tokens, weigh)) for weigh in OPTIMA.values()]
    best = min(tallies, key=lambda tally: tally.faults)
    best.faulted_tokens = min(tally.faulted_tokens for tally in tallies)
    return best


def oracle(string: ReferenceString) -> Tally:
    """The best by each measure of what knows the odds: for the room that a page takes, and for the page alone."""
    by_count, by_tokens = (measured(string, Oracle(string, exponent)) for exponent in (0.75, 0.0))
    by_count.faulted_tokens = by_tokens.faulted_tokens
    return by_count


def contenders() -> Mapping[str, Callable[[ReferenceString], Tally]]:
    policy = SessionConfig().eviction_policy

    def library(make: Callable[[int], Contender]) -> Callable[[ReferenceString], Tally]:
        return lambda string: measured(string, make(string.memory_tokens))

    return {
        **{name: library(make) for name, make in {**ONLINE, **SIZE_AWARE}.items()},
        OURS: lambda string: measured(string, Fold(as_shipped(string.memory_tokens))),
        BEFORE: lambda string: measured(string, Fold(as_shipped(string.memory_tokens, BEFORE))),
        ONE_BY_ONE: lambda string: measured(string, Fold(one_by_one(string.memory_tokens, policy))),
        BLIND: lambda string: measured(string, Fold(as_shipped(string.memory_tokens), blind=True)),
        ORACLE: lambda string: oracle(string) if string.odds else optimum(string),
        OPTIMUM: optimum,
    }


def summed(tallies: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """By contender, over several strings."""
    sums = {name: Tally() for name in contenders()}
    for of_string in tallies:
        for name, tally in of_string.items():
            sums[name].add(tally)
    return sums


class Pins:
    """Pins every twenty-fifth page as it comes, while pins take a fair share of memory."""

    def __init__(self, memory_tokens: int) -> None:
        self.page_ids: set[str] = set()
        self._room_tokens = int(memory_tokens * PINNED_SHARE_MAX)
        self._asked = 0

    def __call__(self, access: Access) -> bool:
        self._asked += 1
        if access.version == 1 and self._asked % PIN_EVERY == 0:
            if access.size_tokens > self._room_tokens:
                return False
            self._room_tokens -= access.size_tokens
            self.page_ids.add(access.page_id)
        return access.page_id in self.page_ids


def pinned_violations(strings: Iterable[ReferenceString]) -> int:
    """Pages that left although they were pinned."""
    violations = 0
    for string in strings:
        pins = Pins(string.memory_tokens)
        fold = Fold(as_shipped(string.memory_tokens), pins)
        for access in string.accesses:
            fold.access(access)
        violations += sum(
            isinstance(effect.what, Evicted) and effect.what.page_id in pins.page_ids for effect in fold.effects
        )
    return violations


def decisions(string: ReferenceString) -> str:
    fold = Fold(as_shipped(string.memory_tokens))
    for access in string.accesses:
        fold.access(access)
    return fold.digest()


def figures_of(family: str, tallies: Mapping[str, Tally]) -> list[Figure]:
    best_by_count = min(ONLINE, key=lambda name: tallies[name].rate)
    best_by_tokens = min(ONLINE, key=lambda name: tallies[name].token_rate)
    shown = (OPTIMUM, "LRU", best_by_count, OURS, BEFORE, ONE_BY_ONE)
    figures = [Figure(f"{family}: fault rate", name, tallies[name].rate) for name in dict.fromkeys(shown)]
    cost = {name: tally.cost / tallies["LRU"].cost for name, tally in tallies.items()}
    return [
        *figures,
        _wanted(family, "gap / LRU's gap", _gap(tallies, OURS, "rate"), GAP_MAX),
        _wanted(family, "gap / LRU's gap, by tokens", _gap(tallies, OURS, "token_rate"), GAP_MAX),
        _wanted(family, f"rate / {best_by_count}'s", tallies[OURS].rate / tallies[best_by_count].rate, WORSE_MAX),
        _wanted(
            family,
            f"rate / {best_by_tokens}'s, by tokens",
            tallies[OURS].token_rate / tallies[best_by_tokens].token_rate,
            WORSE_MAX,
        ),
        Figure(f"{family}: gap / LRU's gap", ORACLE, _gap(tallies, ORACLE, "rate")),
        Figure(f"{family}: gap / LRU's gap, by tokens", ORACLE, _gap(tallies, ORACLE, "token_rate")),
        Figure(f"{family}: thrash index", "LRU", tallies["LRU"].thrash_index),
        Figure(f"{family}: thrash index", OURS, tallies[OURS].thrash_index),
        Figure(f"{family}: cost / LRU's", OURS, cost[OURS]),
        Figure(f"{family}: cost / LRU's", BEFORE, cost[BEFORE]),
    ]


def held_out_figures(family: str, tallies: Mapping[str, Tally]) -> list[Figure]:
    return [
        Figure(f"{family}, held out: gap / LRU's gap", OURS, _gap(tallies, OURS, "rate")),
        Figure(f"{family}, held out: gap / LRU's gap, by tokens", OURS, _gap(tallies, OURS, "token_rate")),
    ]


def _wanted(family: str, name: str, value: float, target: float) -> Figure:
    return Figure(f"{family}: {name}", OURS, value, "", Wanted.AT_MOST, target)


def _gap(tallies: Mapping[str, Tally], name: str, measure: str) -> float:
    best: float = getattr(tallies[OPTIMUM], measure)
    gap: float = getattr(tallies["LRU"], measure) - best
    return (getattr(tallies[name], measure) - best) / gap if gap > 0 else 0.0


def strings_of(seeds: int, data: Path | None) -> list[ReferenceString]:
    """Sorted by family: agents first."""
    strings = [agent_trace(family, seed) for family in FAMILIES for seed in range(1, seeds + 1)]
    counter = tokenizer(EncodingName.O200K_BASE)
    talks = list(conversations(data, GENERATED))
    for share in MEMORY_SHARES:
        strings += [conversation_trace(talk, f"{kind}, {share:.0%}", share, counter) for kind, talk in talks]
    order = list(dict.fromkeys(string.family for string in strings))
    return sorted(strings, key=lambda string: order.index(string.family))


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Traces of each family.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="With locomo/ and beam/.")
def main(seeds: int, data: Path | None) -> None:
    """Measure which pages leave."""
    run(seeds, data)


def run(seeds: int = SEEDS, data: Path | None = None) -> list[Figure]:
    strings = strings_of(seeds, data or _default_data())
    by_family = {family: list(group) for family, group in groupby(strings, key=lambda string: string.family)}
    measures = contenders()
    by_string = {
        (family, string.name): {name: measure(string) for name, measure in measures.items()}
        for family, group in by_family.items()
        for string in group
    }
    tallies = {
        family: summed(by_string[family, string.name] for string in group) for family, group in by_family.items()
    }
    figures = [figure for family in by_family for figure in figures_of(family, tallies[family])]
    held_out = {
        family: [string.name for string in group if string.name not in CHOSEN_ON]
        for family, group in by_family.items()
        if any(string.name in CHOSEN_ON for string in group)
    }
    for family, names in held_out.items():
        figures += held_out_figures(family, summed(by_string[family, name] for name in names))
    violations = pinned_violations(strings)
    differing = sum(decisions(string) != decisions(string) for string in strings[:: max(1, len(strings) // 10)])
    figures.append(Figure("pinned pages that left", OURS, violations, "", Wanted.AT_MOST, 0))
    figures.append(Figure("decision logs that differ", OURS, differing, "", Wanted.AT_MOST, 0))
    show(f"B. Replacement: {len(strings)} reference strings", figures)
    bars = {name: [tallies[family][name].rate for family in by_family] for name in PLOTTED}
    draw_bars("replacement", bars, list(by_family), y_label="faults per re-access")
    details = {
        "policy": SessionConfig().eviction_policy,
        "held out": held_out,
        "accesses": {family: [len(string.accesses) for string in group] for family, group in by_family.items()},
        "systems": {family: {name: _row(one) for name, one in tallies[family].items()} for family in by_family},
    }
    write("replacement", figures, details, seed=1)
    return figures


def _row(tally: Tally) -> Mapping[str, float]:
    return {
        "fault_rate": round(tally.rate, 4),
        "fault_rate_by_tokens": round(tally.token_rate, 4),
        "thrash_index": round(tally.thrash_index, 4),
        "cost_tokens": round(tally.cost),
    }


def _default_data() -> Path | None:
    """PAGEKEEPER_DATA, or a folder of that kind beside the project."""
    folder = Path(os.environ.get("PAGEKEEPER_DATA") or Path(__file__).parents[3] / "shared" / "data")
    return folder if folder.is_dir() else None


if __name__ == "__main__":
    main()
