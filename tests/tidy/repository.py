"""What the repository holds, as the tidy tests read it."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def files(*patterns: str) -> list[Path]:
    """Files that are or could be committed, relative to the root; all of them, or those that match a git pathspec."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [Path(name) for name in names if (ROOT / name).is_file()]


def text(path: Path) -> str:
    """The content of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def is_generated(path: Path) -> bool:
    """Whether a program writes the file."""
    return path.name.endswith(("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"))


def python_files() -> list[Path]:
    """Our own Python files."""
    return [path for path in files("*.py") if not is_generated(path)]


def pyproject() -> dict[str, Any]:
    """The project's configuration."""
    return tomllib.loads(text(Path("pyproject.toml")))


def source_roots() -> list[Path]:
    """The folders that hold a portion of the namespace package and that an editable install puts on the path."""
    return [Path(name) for name in pyproject()["tool"]["hatch"]["build"]["dev-mode-dirs"] if name != "."]
