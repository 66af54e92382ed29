"""What each constant of the default policy gains: its fault rate without the constant, less that with it.

    python -m bench.quality.ablation [--seeds N] [--data FOLDER]

As in `bench.quality.replacement`, the policy is judged as it is shipped, through the fold. An interval holds 95 % of
what comes out when traces of the family are drawn again (bootstrap, paired).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Final

import click

from bench.quality.contenders import Fold, as_shipped
from bench.quality.reference_strings import ReferenceString
from bench.quality.replacement import SEEDS, strings_of
from pagekeeper.core import policies
from pagekeeper.core.events import SessionConfig

NAME: Final = SessionConfig().eviction_policy
DRAWS: Final = 1_000
LARGE: Final = 10**9
"""Beside so much, what differs between pages counts for nothing."""

KEY_CONSTANTS: Final[Mapping[str, tuple[str, float]]] = {
    "scan weight": ("SCAN_WEIGHT", 0.0),
    "reuse odds power": ("REUSE_ODDS_POWER", 1),
    "periodicity power": ("PERIODICITY_POWER", 1),
    "recall likelihood": ("RECALL_LIKELIHOOD_FLOOR", LARGE),
}
"""Constants of the key: what they are called in `policies`, and the value at which they change nothing."""

Counts = list[tuple[int, int]]
"""Re-accesses and faults of each trace."""


@contextmanager
def without(constant: str) -> Iterator[None]:
    """The default policy without one of its constants, until the block is left."""
    shipped = policies.POLICIES[NAME]
    learning = shipped.learning
    changed = {
        "batch value ratio": replace(shipped, batch_value_ratio=None),
        "periodicity memory": replace(
            shipped, learning=replace(learning, periodicity_kept=0.5, periodicity_kept_by_new=0.5)
        ),
        "size prior": replace(shipped, learning=replace(learning, size_prior=float(LARGE))),
    }
    policies.POLICIES[NAME] = changed.get(constant, shipped)
    name, neutral = KEY_CONSTANTS.get(constant, ("SCAN_WEIGHT", policies.SCAN_WEIGHT))
    before = getattr(policies, name)
    setattr(policies, name, neutral)
    try:
        yield
    finally:
        policies.POLICIES[NAME] = shipped
        setattr(policies, name, before)


CONSTANTS: Final = ("batch value ratio", "periodicity memory", "size prior", *KEY_CONSTANTS)


def counted(strings: Sequence[ReferenceString]) -> Counts:
    return [_counted(string) for string in strings]


def _counted(string: ReferenceString) -> tuple[int, int]:
    fold, seen = Fold(as_shipped(string.memory_tokens)), set[tuple[str, int]]()
    reaccesses = faults = 0
    for access in string.accesses:
        hit, key = fold.access(access), (access.page_id, access.version)
        if key in seen:
            reaccesses += 1
            faults += not hit
        seen.add(key)
    return reaccesses, faults


def gained(shipped: Counts, ablated: Counts) -> tuple[float, float, float]:
    """How much higher the fault rate is without the constant, and the ends of its interval."""
    random = Random(1)
    drawn = sorted(
        _difference([shipped[i] for i in chosen], [ablated[i] for i in chosen])
        for chosen in (random.choices(range(len(shipped)), k=len(shipped)) for _ in range(DRAWS))
    )
    return _difference(shipped, ablated), drawn[DRAWS // 40], drawn[-DRAWS // 40]


def _difference(shipped: Counts, ablated: Counts) -> float:
    reaccesses = max(1, sum(count for count, _ in shipped))
    return (sum(faults for _, faults in ablated) - sum(faults for _, faults in shipped)) / reaccesses


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Traces of each family.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="With locomo/ and beam/.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the figures as JSON.")
def main(seeds: int, data: Path | None, out: Path | None) -> None:
    """Measure what each constant gains."""
    strings = strings_of(seeds, data)
    by_family = {family: list(group) for family, group in groupby(strings, key=lambda string: string.family)}
    shipped = {family: counted(group) for family, group in by_family.items()}
    figures: dict[str, dict[str, tuple[float, float, float]]] = {}
    for constant in CONSTANTS:
        with without(constant):
            figures[constant] = {family: gained(shipped[family], counted(group)) for family, group in by_family.items()}
        for family, (gain, low, high) in figures[constant].items():
            click.echo(f"{constant:20} {family:16} {gain:+.3f}  [{low:+.3f}, {high:+.3f}]")
    if out is not None:
        out.write_text(json.dumps({"policy": NAME, "seeds": seeds, "gained": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
