"""Runs the parts one after the other, each in a process of its own, and says at the end what was met.

python -m bench.quality [PART ...], of evidence own-process-evidence languages replacement cache tokens cost
own-process-turns first-token
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bench.quality.report import RESULTS, Figure, Wanted

PARTS: Final = (
    "evidence",
    "own-process-evidence",
    "languages",
    "replacement",
    "cache",
    "tokens",
    "cost",
    "own-process-turns",
)
"""In order: what is measured in a program's own process stands beside what `evidence` measured of a stack."""
WITH_A_MODEL: Final = ("first-token",)
"""Run only when named: what they need takes minutes to compile."""
ABLATIONS: Final = ("recall-ablation",)
"""Run only when named: they say why a constant is there, and claim nothing."""
COMMANDS: Final = {
    "own-process-turns": ("bench.quality.own_process", "turns"),
    "own-process-evidence": ("bench.quality.own_process", "evidence"),
}
"""The modules of parts that are one command of several; any other part is a module of its own."""
DATA: Final = "PAGEKEEPER_DATA"
DEFAULT_DATA: Final = Path(__file__).parents[3] / "shared" / "data"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice((*PARTS, *WITH_A_MODEL, *ABLATIONS)))
def main(parts: tuple[str, ...]) -> None:
    """Measure PARTS, all that need no model when none is named."""
    console = Console()
    folder = Path(os.environ.get(DATA, DEFAULT_DATA))
    if folder.is_dir():
        console.print(f"Real conversations are read from {DATA if DATA in os.environ else 'the default folder'}.")
    else:
        console.print(f"No real conversations: {DATA} names no folder, so generated ones stand in for them.")
    failed = [part for part in parts or PARTS if not _measured(part)]
    console.print(_summary([part for part in parts or PARTS if part not in failed]))
    for part in failed:
        console.print(f"{part} ended with an error; see above.")
    sys.exit(bool(failed))


def _measured(part: str) -> bool:
    command = COMMANDS.get(part, (f"bench.quality.{part.replace('-', '_')}",))
    return subprocess.run([sys.executable, "-m", *command], check=False).returncode == 0


def _summary(parts: list[str]) -> Table:
    table = Table("part", "figure", "system", "value", "target", "", title="What was wanted", title_justify="left")
    for part in parts:
        for figure in _figures(part):
            if figure.met is not None:
                target = f"{figure.wanted} {figure.target:g}"
                verdict = "met" if figure.met else "missed"
                table.add_row(part, figure.name, figure.system, f"{figure.value:.4g} {figure.unit}", target, verdict)
    return table


def _figures(part: str) -> list[Figure]:
    """What the part has written."""
    written = json.loads((RESULTS / f"quality-{part}.json").read_text())["figures"]
    return [
        Figure(one["name"], one["system"], one["value"], one["unit"], Wanted(one["wanted"]), one["target"])
        for one in written
    ]


if __name__ == "__main__":
    main()
