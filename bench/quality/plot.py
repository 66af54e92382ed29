"""Lines and bars, drawn by matplotlib: only the environment of `make bench-quality` has it."""

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


def draw_bars(part: str, bars: Mapping[str, Sequence[float]], groups: Sequence[str], *, y_label: str) -> None:
    """Write `bench/results/quality-<part>.svg`: a bar of each name in every group."""
    figure = import_module("matplotlib.figure").Figure(figsize=(12, 4.5), layout="constrained")
    axes, width = figure.subplots(), 0.85 / len(bars)
    for index, (name, values) in enumerate(bars.items()):
        axes.bar([group + index * width for group in range(len(groups))], values, width, label=name)
    axes.set_xticks([group + 0.425 - width / 2 for group in range(len(groups))], groups)
    axes.set(ylabel=y_label, ylim=(0, None))
    axes.legend(loc="best", fontsize="x-small", ncols=2)
    figure.savefig(RESULTS / f"quality-{part}.svg", metadata={"Date": None})


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of up to `window` values that end at each."""
    return [sum(part) / len(part) for part in (values[max(0, end - window) : end] for end in range(1, len(values) + 1))]
