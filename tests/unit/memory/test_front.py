"""What the package's front promises is there, and a type checker and a program are told the same."""

import ast
import subprocess
import sys
from importlib import import_module
from inspect import ismodule
from pathlib import Path

import pytest

import pagekeeper.memory as front

STARS = {
    node.module.rpartition(".")[2]
    for node in ast.walk(ast.parse(Path(front.__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module is not None and node.names[0].name == "*"
}


def exported(module: str) -> set[str]:
    """What a star takes from the module: for a package of stars, what they have brought into it."""
    offered = import_module(f"pagekeeper.memory.{module}")
    if hasattr(offered, "__all__"):
        return set(offered.__all__)
    return {name for name, value in vars(offered).items() if not name.startswith("_") and not ismodule(value)}


@pytest.mark.parametrize("name", front.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(front, name) is not None


def test_no_name_stands_for_two_things() -> None:
    assert len(set(front.__all__)) == len(front.__all__)


@pytest.mark.parametrize("module", sorted(STARS))
def test_a_type_checker_sees_what_a_program_gets(module: str) -> None:
    offered = import_module(f"pagekeeper.memory.{module}")
    for name in exported(module):
        assert getattr(front, name) is getattr(offered, name)


def test_every_name_is_seen_by_a_type_checker() -> None:
    seen = {name for module in STARS for name in exported(module)}
    assert sorted(front.__all__) == sorted(seen)


def test_who_folds_the_log_loads_no_models() -> None:
    said = "import sys, pagekeeper.core.session; print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_every_name_is_offered_for_completion() -> None:
    assert set(front.__all__) <= set(dir(front))


WITHOUT_EXTRAS = """
import sys

EXTRAS = {"PIL", "av", "grpc", "nats", "minio"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Absent())
from pagekeeper.memory import *

page = MemoryPage(page_id="p1", content="It works.")
assert ContextPacker().pack([page]).content == '? (p1): "It works."'
try:
    make_thumbnail(b"")
except ImportError as missing:
    print("make_thumbnail:", missing)
print(sorted(EXTRAS & sys.modules.keys()))
"""


def test_a_plain_install_imports_every_name() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, check=False)
    assert run.stdout == "make_thumbnail: PIL is not installed\n[]\n", run.stderr


def test_the_front_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = front.Nothing  # type: ignore[attr-defined]
