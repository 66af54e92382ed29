"""What every file of the repository keeps to, and no linter looks for."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import FOLDERS
from tests.tidy.repository import ROOT, files, pyproject, python_files, source_roots, text

LINES_MAX = 450
BANNED_NAMES = {"base", "common", "data", "helper", "helpers", "impl", "info", "manager", "misc", "util", "utils"}
THE_GUIDES_NAMES = {Path("libs/pagekeeper/memory/manager.py")}
TEXT_SUFFIXES = {"", ".cfg", ".ini", ".lock", ".md", ".proto", ".py", ".pyi", ".toml", ".txt", ".yaml", ".yml"}
MACHINE_PATHS = re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm|root|home/\w+|Users/\w+)/")
DEFERRED = re.compile(r"\b(TODO|FIXME|XXX|HACK|for now|not implemented yet)\b")
INDEX = re.compile(r"https?://|^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
MAKE = re.compile(r"`make ([a-z-]+)")


def texts(*patterns: str) -> list[Path]:
    return [path for path in files(*patterns) if path.suffix in TEXT_SUFFIXES]


def offences(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_path_of_a_machine() -> None:
    assert not offences(MACHINE_PATHS, texts())


def test_locks_name_versions_and_hashes_and_no_place() -> None:
    locks = [path for path in files() if "lock" in path.stem or "requirements" in path.stem]
    assert Path("requirements.lock") in locks
    assert not offences(INDEX, [path for path in locks if path.suffix != ".py"])


def test_nothing_is_put_off() -> None:
    assert not offences(DEFERRED, texts("services", "libs", "deploy", "proto", "bench", "Makefile", ".ci"))


def test_names_come_from_the_domain() -> None:
    ours = [path for path in python_files() if path not in THE_GUIDES_NAMES]
    named = {path: {path.stem, *path.parent.parts} & BANNED_NAMES for path in ours}
    assert not {str(path): sorted(names) for path, names in named.items() if names}


def test_files_have_one_subject() -> None:
    lengths = {str(path): len(text(path).splitlines()) for path in python_files()}
    assert not {path: lines for path, lines in lengths.items() if lines > LINES_MAX}


def test_only_portions_of_the_namespace_lack_an_init() -> None:
    portions = [root / "pagekeeper" for root in source_roots()]
    packages = {path.parent for path in python_files() if any(path.is_relative_to(portion) for portion in portions)}
    for package in packages:
        assert (ROOT / package / "__init__.py").exists() != (package in portions), package


def test_every_source_root_is_shipped() -> None:
    roots = [str(root) for root in source_roots()]
    shipped = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert shipped == [f"{root}/pagekeeper" for root in roots]
    portions = {str(path).partition("/pagekeeper/")[0] for path in python_files() if "pagekeeper" in path.parts}
    assert portions == set(roots)


def test_a_test_stands_in_a_folder_that_has_an_order() -> None:
    tests = [path for path in files("tests") if path.name.startswith("test_") and path.suffix == ".py"]
    assert {path.parts[1] for path in tests} <= set(FOLDERS)


@pytest.mark.parametrize("page", files("*.md"), ids=str)
def test_links_and_commands_of_a_page_exist(page: Path) -> None:
    targets = {match["target"] for match in LINK.finditer(text(page))}
    inside = [urlsplit(target).path for target in targets if not urlsplit(target).scheme]
    assert not [target for target in inside if target and not (ROOT / page.parent / target).exists()]
    known = set(re.findall(r"^([a-z-]+):", text(Path("Makefile")), re.MULTILINE))
    assert set(MAKE.findall(text(page))) <= known
