"""Figures with their targets: printed as a table, written as JSON with seed, date and machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.measuring import machine
from pagekeeper.runtime.clock import SystemClock

SEED: Final = 20261123
RESULTS: Final = Path(__file__).parents[1] / "results"


class Wanted(StrEnum):
    """Which side of its target a figure should be on."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    REPORTED = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. A baseline has no target and is REPORTED."""

    name: str
    system: str
    value: float
    unit: str = ""
    wanted: Wanted = Wanted.REPORTED
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """None when nothing was wanted."""
        match self.wanted:
            case Wanted.AT_LEAST if self.target is not None:
                return self.value >= self.target
            case Wanted.AT_MOST if self.target is not None:
                return self.value <= self.target
        return None


def show(title: str, figures: Sequence[Figure], console: Console | None = None) -> None:
    """Print the figures in the order given."""
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "system"):
        table.add_column(heading)
    for heading in ("value", "target", ""):
        table.add_column(heading, justify="right")
    for figure in figures:
        target = "" if figure.target is None else f"{figure.wanted} {figure.target:g}"
        verdict = {True: "met", False: "missed", None: ""}[figure.met]
        table.add_row(figure.name, figure.system, f"{figure.value:.4g} {figure.unit}".rstrip(), target, verdict)
    (console or Console()).print(table)


def write(part: str, figures: Sequence[Figure], details: Mapping[str, object], *, seed: int = SEED) -> Path:
    """Write `bench/results/quality-<part>.json`: what was measured, when, on what, and with which seed."""
    path = RESULTS / f"quality-{part}.json"
    payload = {
        "date": datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date().isoformat(),
        "seed": seed,
        "machine": machine(),
        "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
        **details,
    }
    path.write_text(json.dumps(payload, indent=1, ensure_ascii=False) + "\n")
    return path
