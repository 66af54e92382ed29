"""The rows as a table with what must hold of their growth, and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.scale.meter import Results, Row
from bench.scale.parts import PARTS, SEED
from pagekeeper.runtime.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Growth:
    """The CPU of an operation may grow by so much at most, as a factor, between two values of a parameter."""

    name: str
    parameter: str
    first: int
    last: int
    factor_max: float


GROWTHS: Final = (
    Growth("turn", "replicas", 1, 4, 1.1),
    Growth("fault", "replicas", 1, 4, 1.1),
    Growth("turn", "turns", 100, 3_000, 1.2),
    Growth("turn", "sessions", 1, 1_000, 1.2),
    Growth("assemble_recall", "pages", 200, 10_000, 1.2),
)
LATENCIES_MS_MAX: Final = {("cold_recall", "pages", 10_000): 150.0}
"""The p50 of an operation with a parameter at a value."""


def show(results: Results) -> None:
    """Print the rows, and which of them miss what they must hold."""
    console = Console(width=110)
    table = Table("operation", "parameter")
    for heading in ("at", "CPU µs", "grown by", "p50 ms", "p99 ms", "operations", "must"):
        table.add_column(heading, justify="right")
    first: dict[tuple[str, str], float] = {}
    for row in results.rows:
        grown = row.cpu_us / first.setdefault((row.name, row.parameter), row.cpu_us or 1.0)
        must = must_of(row, results.rows)
        table.add_row(
            row.name,
            row.parameter,
            f"{row.at:,}",
            f"{row.cpu_us:,.0f}",
            f"x {grown:.2f}",
            f"{row.p50_ms:,.2f}",
            f"{row.p99_ms:,.2f}",
            f"{row.operations:,}",
            "" if must is None else f"{must[0]}{'' if must[1] else ', missed'}",
            style=None if must is None or must[1] else "bold",
        )
    console.print(table)
    for name, part in results.parts.items():
        for size in part.sizes:
            console.print(f"{size.name}, {size.parameter} {size.at:,}: {size.bytes / 1024**2:,.0f} MiB", style="dim")
        if not part.whole:
            console.print(f"No time was left for all of {name}.")


def must_of(row: Row, rows: Sequence[Row]) -> tuple[str, bool] | None:
    """What a row must hold, and whether it does; None when nothing is asked of the row."""
    latency_ms_max = LATENCIES_MS_MAX.get((row.name, row.parameter, row.at))
    if latency_ms_max is not None:
        return f"p50 ≤ {latency_ms_max:g} ms", row.p50_ms <= latency_ms_max
    for growth in GROWTHS:
        if (growth.name, growth.parameter, growth.last) == (row.name, row.parameter, row.at):
            first = [
                one for one in rows if (one.name, one.parameter, one.at) == (row.name, row.parameter, growth.first)
            ]
            if first:
                return f"CPU ≤ x {growth.factor_max:g}", row.cpu_us <= growth.factor_max * first[0].cpu_us
    return None


def write_rows(path: Path, results: Results) -> None:
    """The rows alone, a JSON array with a line for each."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in results.rows)
    path.write_text(f"[\n{lines}\n]\n")


def keep(path: Path, results: Results, *, quick: bool) -> None:
    """Replace the parts that were measured, each with its seed, its date and its machine. Other parts stay."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    date = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date().isoformat()
    for name, part in results.parts.items():
        kept[name] = {"date": date, "seed": SEED, "quick": quick, **asdict(part)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: kept[name] for name in PARTS if name in kept}, indent=1) + "\n")
