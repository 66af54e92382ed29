"""The tables of README.md that put a target beside a result, made from the results that are committed.

python -m bench.claims          write the tables into README.md
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.quality.report import RESULTS

README: Final = Path(__file__).parents[1] / "README.md"
PLACE: Final = re.compile(r"(<!-- figures: (?P<part>[a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
DATA_SETS: Final = {"locomo": "LoCoMo", "beam": "BEAM"}
PRODUCT: Final = "pagekeeper"
CASE: Final = ": "
"""Between a case and its measure in the name of a figure that is measured for several cases."""

Figure = dict[str, Any]


def with_figures(page: str) -> str:
    """The page with each table made anew. A part that is named twice or unknown is an error of the page."""
    return PLACE.sub(lambda place: f"{place[1]}{table(place['part'])}{place[3]}", page)


def table(part: str) -> str:
    """A part's figures with a target, and a line that says when and on what they were measured."""
    results = json.loads((RESULTS / f"quality-{part}.json").read_text())
    figures: list[Figure] = results["figures"]
    if part == "evidence":
        rows = _beside_baselines(figures)
    elif all(CASE in figure["name"] for figure in figures[:1]):
        rows = _by_case([figure for figure in figures if figure["target"] is not None])
    else:
        rows = _one_by_one([figure for figure in figures if figure["target"] is not None])
    machine = results["machine"]
    source = f"[quality-{part}.json](bench/results/quality-{part}.json)"
    measured = f"{machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    return "\n" + _markdown(rows) + f"\n{source}: {results['date']}, {measured}.\n\n"


def _one_by_one(figures: Sequence[Figure]) -> list[list[str]]:
    systems = {figure["system"] for figure in figures}
    rows = [["figure", "target", "result"]]
    for figure in figures:
        name = figure["name"] if len(systems) == 1 else f"{figure['name']} ({figure['system']})"
        rows.append([name, _target(figure), _result(figure)])
    return rows


def _by_case(figures: Sequence[Figure]) -> list[list[str]]:
    """One row a case and one column a measure; figures without a case stand behind it, in rows of their own."""
    cells: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        case, _, measure = figure["name"].partition(CASE)
        if measure:
            cells.setdefault(case, {})[re.sub(r"rate / .*'s", "rate / best online policy's", measure)] = figure
    measures = list(dict.fromkeys(measure for row in cells.values() for measure in row))
    first = next(iter(cells.values()))
    rows = [["", *(f"{measure}, target {_target(first[measure])}" for measure in measures)]]
    rows += [
        [case, *(_result(row[measure]) if measure in row else "" for measure in measures)]
        for case, row in cells.items()
    ]
    alone = [figure for figure in figures if CASE not in figure["name"]]
    if alone:
        rows += [[f"{figure['name']}, target {_target(figure)}", _result(figure)] for figure in alone]
    return rows


def _beside_baselines(figures: Sequence[Figure]) -> list[list[str]]:
    """One row a system that has every budget, the product's and the targets at the end."""
    names = list(dict.fromkeys(figure["name"] for figure in figures))
    values = {(figure["system"], figure["name"]): figure for figure in figures}
    systems = [system for system in dict.fromkeys(figure["system"] for figure in figures) if system != PRODUCT]
    rows = [["", *(_budget(name) for name in names)]]
    rows += [
        [system, *(_result(values[system, name]) for name in names)]
        for system in [*systems, PRODUCT]
        if all((system, name) in values for name in names)
    ]
    return [*rows, ["target", *(_target(values[PRODUCT, name]) for name in names)]]


def _budget(name: str) -> str:
    data_set, _, tokens = name.partition(" ")
    return f"{DATA_SETS.get(data_set, data_set)} {tokens}"


def _target(figure: Figure) -> str:
    return f"{figure['wanted']} {figure['target']:g} {figure['unit']}".rstrip()


def _result(figure: Figure) -> str:
    """Three places behind the point, or as many digits as a whole number has; bold when its target is missed."""
    value = float(figure["value"])
    shown = f"{value:,.0f}" if value.is_integer() or value >= 100 else f"{value:.3f}"
    shown = f"{shown} {figure['unit']}".rstrip()
    return f"**{shown}**" if figure["met"] is False else shown


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    head, *body = rows
    width = len(head)
    lines = [head, ["---"] * width, *([*row, *[""] * (width - len(row))] for row in body)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text()))
