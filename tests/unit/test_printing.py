"""Nothing that others wrote reaches a terminal as a command."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from pagekeeper.app.printing import Printer, say
from pagekeeper.core.escape import visible
from tests.unit.hostile_text import hostile_texts

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal takes for a command, or that reorders what it shows."""
STYLE = re.compile(r"\x1b\[[0-9;]*m")
ROOT = Path(__file__).parents[2]
PRINTING = ("services/pagekeeper/app", "deploy/pagekeeper/local", "demo")


def as_string(printer: Printer, text: str) -> None:
    printer.print(text)


def as_text(printer: Printer, text: str) -> None:
    printer.print(Text.assemble((text, "bold red"), text))


def as_cell(printer: Printer, text: str) -> None:
    table = Table("page", text)
    table.add_row(text, Text(text))
    printer.print(table)


ways = st.sampled_from([as_string, as_text, as_cell])


@given(hostile_texts, ways)
def test_a_pipe_gets_neither_commands_nor_styles(text: str, way: Callable[[Printer, str], None]) -> None:
    printer = Printer(file=io.StringIO(), width=4_000)
    way(printer, text)
    assert not OBEYED.search(printer.file.getvalue())  # type: ignore[attr-defined]


@given(hostile_texts, ways)
def test_a_terminal_gets_our_styles_alone(text: str, way: Callable[[Printer, str], None]) -> None:
    printer = Printer(file=io.StringIO(), width=4_000, force_terminal=True, color_system="standard")
    way(printer, f"{text}\x1b[31mred\x1b[0m\x1b[?1049h\x1b]0;title")
    out = printer.file.getvalue()  # type: ignore[attr-defined]
    assert not OBEYED.search(STYLE.sub("", out))
    assert r"\e[31mred\e[0m\e[?1049h\u{1B}]0;title" in STYLE.sub("", out)


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/]", "a :smile: b", "[link=https://example.org]y[/link]"])
def test_markup_of_others_is_text(text: str) -> None:
    printer = Printer(file=io.StringIO(), width=200)
    printer.print(text)
    as_cell(printer, text)
    assert printer.file.getvalue().count(text) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("err", [False, True])
def test_lines_are_said_as_they_are(capfd: pytest.CaptureFixture[str], *, err: bool) -> None:
    text = "one\n\ttwo\x1b[2J\x9b31m\x07\r" + "three " * 100
    say(text, err=err)
    printed = capfd.readouterr()
    assert (printed.err if err else printed.out) == visible(text) + "\n"


def test_the_command_line_prints_by_these_alone() -> None:
    """A console of one's own, an echo or a print would show what others wrote as it came."""
    files = [path for folder in PRINTING for path in (ROOT / folder).rglob("*.py") if path.name != "printing.py"]
    assert len(files) > 20
    found = re.compile(r"\bConsole\(|\bclick\.s?echo\(|(?<![\w.])print\(|from rich\.console import.*\bConsole\b")
    assert not [f"{path.relative_to(ROOT)}: {one[0]}" for path in files for one in found.finditer(path.read_text())]
