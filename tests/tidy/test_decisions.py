"""The index of the decisions is what the decisions are."""

import re
from pathlib import Path

from tests.tidy.repository import files, text

FOLDER = Path("docs/adr")
DECISIONS = [path for path in files(f"{FOLDER}/*.md") if path.name != "README.md"]
HEADINGS = ["Context", "Decision", "Consequences"]
ENTRY = re.compile(r"^(?P<number>\d+)\. \[(?P<title>[^\]]+)\]\((?P<file>[^)]+)\)", re.MULTILINE)
PRONOUN = re.compile(r"(?:It|Its|That|These|They|This|Those|What|Who)\b")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_index_lists_every_decision_by_its_title() -> None:
    listed = [(match["file"], match["number"], match["title"]) for match in ENTRY.finditer(text(FOLDER / "README.md"))]
    assert listed == [(path.name, str(int(path.name[:4])), title(path)) for path in DECISIONS]


def test_a_decision_has_its_three_parts() -> None:
    wrong = [path.name for path in DECISIONS if re.findall(r"^## (.+)$", text(path), re.MULTILINE) != HEADINGS]
    assert not wrong


def test_a_title_says_what_was_decided() -> None:
    assert not [title(path) for path in DECISIONS if PRONOUN.match(title(path))]


def title(path: Path) -> str:
    """The heading of a decision, without its number."""
    number, _, words = text(path).splitlines()[0].removeprefix("# ").partition(". ")
    assert int(number) == int(path.name[:4]), path
    return words
