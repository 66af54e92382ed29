"""Lines over the course of a conversation, drawn by matplotlib: only the environment of `make bench-quality` has it."""

from collections.abc import Mapping, Sequence
from importlib import import_module

from bench.quality.report import RESULTS


def draw_lines(part: str, lines: Mapping[str, Sequence[float]], *, x_label: str, y_label: str) -> None:
    """Write `bench/results/quality-<part>.svg`."""
    figure = import_module("matplotlib.figure").Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in lines.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linewidth=1.2)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axes.legend(loc="best", fontsize="small")
    figure.savefig(RESULTS / f"quality-{part}.svg", metadata={"Date": None})


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of up to `window` values that end at each."""
    return [sum(part) / len(part) for part in (values[max(0, end - window) : end] for end in range(1, len(values) + 1))]
