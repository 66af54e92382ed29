"""The page for those who come from the other system is right about the names here, and about those that are not."""

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import pagekeeper.client
import pagekeeper.core.errors
import pagekeeper.memory

PAGE: Final = (Path(__file__).parents[3] / "docs" / "migrating.md").read_text(encoding="utf-8")
MODULES: Final[dict[str, ModuleType]] = {
    "pagekeeper.client": pagekeeper.client,
    "pagekeeper.core.errors": pagekeeper.core.errors,
    "pagekeeper.memory": pagekeeper.memory,
}
ABSENT: Final = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
CODE: Final = re.compile(r"`([^`]+)`")
CLASS: Final = re.compile(r"\b(?P<name>(?:[A-Z][a-z]+){2,}\w*|[A-Z][A-Z]+[a-z]\w*)(?:\.(?P<member>\w+))?")

ROWS: Final = [row.groups() for row in ABSENT.finditer(PAGE[PAGE.index("## What is not here") :])]


def found(name: str) -> list[object]:
    return [getattr(module, name) for module in MODULES.values() if hasattr(module, name)]


def columns_here() -> list[str]:
    """What the page says of this library: the last columns of its tables, and its text."""
    lines = PAGE.splitlines()
    told = [line for line in lines if not line.startswith(("|", "  -e"))]
    return [*told, *(line.rstrip(" |").rpartition(" | ")[2] for line in lines if line.startswith("| "))]


NAMED: Final = sorted(
    {
        (match["name"], match["member"] or "")
        for column in columns_here()
        for code in CODE.findall(column)
        if "chuk" not in code
        for match in CLASS.finditer(code)
    }
    - {("UnicodeEncodeError", "")}
)


def test_the_page_names_something() -> None:
    assert len(NAMED) > 20
    assert len(ROWS) > 80


@pytest.mark.parametrize(("name", "member"), NAMED)
def test_what_the_page_says_is_here_is_here(name: str, member: str) -> None:
    kinds = found(name)
    assert kinds, f"{name} is in none of {', '.join(MODULES)}"
    assert not member or any(hasattr(kind, member) for kind in kinds)


@pytest.mark.parametrize("imported", sorted(set(re.findall(r"from (pagekeeper[\w.]*) import (\w[\w, ]*)", PAGE))))
def test_every_import_on_the_page_works(imported: tuple[str, str]) -> None:
    module, names = imported
    for name in names.split(", "):
        assert hasattr(MODULES[module], name)


def test_what_is_not_here_is_listed_once_by_name() -> None:
    names = [name for name, _, _ in ROWS]
    assert names == sorted(set(names), key=str.lower)


@pytest.mark.parametrize(("name", "missing", "why"), ROWS)
def test_what_the_page_says_is_not_here_is_not(name: str, missing: str, why: str) -> None:
    assert why
    kinds = found(name)
    if missing.startswith(("all", "the function")):
        assert not kinds or name == "Session"  # of which the page says that it is another thing
        return
    assert kinds
    if missing.startswith("method"):
        assert not [called for kind in kinds for called in CODE.findall(missing) if hasattr(kind, called)]
        return
    absent, _, method = missing.partition(" of ")
    for kind in kinds:
        call: Any = getattr(kind, method.strip("`")) if method else kind
        taken = set(inspect.signature(call).parameters) | set(getattr(kind, "model_fields", {}))
        assert not set(CODE.findall(absent)) & taken
