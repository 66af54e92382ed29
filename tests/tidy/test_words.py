"""A docstring begins with its subject: no reader has to look for what a pronoun stands for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.repository import python_files, text

FOLDERS = tuple(
    map(
        Path,
        ("libs/pagekeeper/core", "libs/pagekeeper/memory", "libs/pagekeeper/runtime", "services", "deploy", "demo"),
    )
)
PRONOUN = re.compile(r"(?:It|Its|That|Their|These|They|This|Those|What|Who|Whose)\b")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a file, each with the line of what it documents."""
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, Documented) and (documentation := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), documentation


def test_a_docstring_begins_with_its_subject() -> None:
    ours = [path for path in python_files() if any(path.is_relative_to(folder) for folder in FOLDERS)]
    assert ours
    assert not [
        f"{path}:{line}: {documentation.splitlines()[0]}"
        for path in ours
        for line, documentation in docstrings(path)
        if PRONOUN.match(documentation)
    ]
