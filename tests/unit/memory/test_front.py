"""What the package's front promises is there, and a type checker and a program are told the same."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pagekeeper.memory as front

STARS = {
    node.module.rpartition(".")[2]
    for node in ast.walk(ast.parse(Path(front.__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module is not None and node.names[0].name == "*"
}


@pytest.mark.parametrize("name", front.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(front, name) is not None


def test_no_name_stands_for_two_things() -> None:
    assert len(set(front.__all__)) == len(front.__all__)


@pytest.mark.parametrize("module", sorted(STARS))
def test_a_type_checker_sees_what_a_program_gets(module: str) -> None:
    offered = import_module(f"pagekeeper.memory.{module}")
    for name in offered.__all__:
        assert getattr(front, name) is getattr(offered, name)


def test_every_name_is_seen_by_a_type_checker() -> None:
    seen = {name for module in STARS for name in import_module(f"pagekeeper.memory.{module}").__all__}
    assert sorted(front.__all__) == sorted(seen)


def test_who_folds_the_log_loads_no_models() -> None:
    said = "import sys, pagekeeper.core.session; print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_front_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = front.Nothing  # type: ignore[attr-defined]
