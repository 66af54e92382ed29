"""Who installs a part gets that part: what a wheel holds, and what imports with the requirements of each extra alone.

The environments are made without an index. The wheel is built here and installed by pip; its requirements are linked
from the environment of the tests, each distribution that the wheel's own metadata asks for and no other.
"""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.e2e.chat_endpoint import KEY, chat_endpoint
from tests.tidy.repository import ROOT, source_roots

Install = Callable[..., Path]

OF_MEDIA = {"pagekeeper.core.compress.pictures"}
NEVER_PLAIN = ("av", "cryptography", "google", "grpc", "jwt", "minio", "nats", "PIL", "rich", "uvloop")
"""What a plain install must not bring."""

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as missing:
                print(found.name, missing.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Make an environment of the wheel with some extras, or distributions beside it, and answer its interpreter."""
    made: dict[tuple[str, ...], Path] = {}

    def installed(*extras: str, beside: tuple[str, ...] = ()) -> Path:
        if (made_as := (*extras, *beside)) not in made:
            folder = tmp_path_factory.mktemp("-".join(("plain", *made_as)))
            venv.create(folder, with_pip=False, symlinks=True)
            python = folder / "bin" / "python"
            for name in required("pagekeeper", extras).union(*map(required, beside)) - {"pagekeeper"}:
                link(((packages_of(sys.executable) / file, file) for file in files_of(name)), packages_of(python))
            if made_as:
                plain = packages_of(installed())
                ours = (path for found in plain.glob("pagekeeper*") for path in found.rglob("*") if path.is_file())
                link(((path, path.relative_to(plain)) for path in ours), packages_of(python))
            else:
                pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
                subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
            made[made_as] = python
        return made[made_as]

    return installed


def required(name: str, extras: Iterable[str] = ()) -> set[str]:
    """A distribution and all that it asks for, at any remove."""
    found: set[str] = set()
    asked = [(name, frozenset(extras))]
    seen = set()
    while asked:
        name, wanted = asked.pop()
        found.add(name)
        seen.add((name, wanted))
        for requirement in map(Requirement, distribution(name).requires or ()):
            if any(requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in ("", *wanted)):
                needed = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if needed not in seen:
                    asked.append(needed)
    return found


def files_of(name: str) -> Iterator[Path]:
    """An installed distribution's files in site-packages, relative to the folder."""
    return (Path(file) for file in distribution(name).files or () if ".." not in file.parts)


def packages_of(python: str | Path) -> Path:
    """The folder of an environment that distributions are installed into."""
    (packages,) = Path(python).parents[1].glob("lib/python*/site-packages")
    return packages


def link(files: Iterable[tuple[Path, Path]], packages: Path) -> None:
    """Put files, each with its place, into an environment; bytecode too, which stays valid for linked sources."""
    for source, place in files:
        target = packages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def missing(python: Path, *packages: str) -> dict[str, str]:
    """Import every module of the packages; answer those that want a distribution that is not there, and its name."""
    shown = subprocess.run([python, "-I", "-c", IMPORT_ALL, *packages], check=True, capture_output=True, text=True)
    return dict(line.split() for line in shown.stdout.splitlines())


def test_a_wheel_holds_the_package_and_nothing_of_its_workshop(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    outside = {name for name in names if name.parts[0] != "pagekeeper" and ".dist-info" not in name.parts[0]}
    assert not outside
    folders = {name.parts[1] for name in names if name.parts[0] == "pagekeeper"}
    assert folders == {path.name for root in source_roots() for path in (ROOT / root / "pagekeeper").iterdir()}
    assert not [name for name in names if name.name.startswith(("test_", "conftest", "faulty_", "fake_"))]


def test_a_plain_install_is_the_memory_in_process(install: Install) -> None:
    python = install()
    parts = ("core", "memory", "runtime.tokens", "runtime.embedder", "runtime.clock")
    assert missing(python, *(f"pagekeeper.{part}" for part in parts)) == dict.fromkeys(OF_MEDIA, "PIL")
    look = "import sys; from importlib.util import find_spec; print(*filter(find_spec, sys.argv[1:]))"
    shown = subprocess.run([python, "-I", "-c", look, *NEVER_PLAIN], check=True, capture_output=True, text=True)
    assert not shown.stdout.split()


def test_the_extras_client_and_media_bring_what_calls_a_stack_and_the_decoders(install: Install) -> None:
    assert not missing(install("client", "media"), *(f"pagekeeper.{part}" for part in ("client", "core", "memory")))


def test_the_extra_local_brings_everything_but_the_decoders(install: Install) -> None:
    assert missing(install("local"), "pagekeeper") == dict.fromkeys(OF_MEDIA, "PIL")


@pytest.mark.parametrize(
    ("command", "extra"), [(["-m", "pagekeeper.app"], "server"), (["-m", "pagekeeper.local"], "local")]
)
def test_a_command_says_what_to_install(install: Install, command: list[str], extra: str) -> None:
    answered = subprocess.run([install(), "-I", *command], check=False, capture_output=True, text=True)
    assert answered.returncode == 1
    (line,) = answered.stderr.splitlines()
    assert re.fullmatch(rf"pagekeeper: \w+ is not installed; .+: pip install 'pagekeeper\[{extra}\]'", line)


def test_the_installed_command_is_the_module(install: Install) -> None:
    command = install().with_name("pagekeeper")
    answered = subprocess.run([command], check=False, capture_output=True, text=True)
    assert "pip install 'pagekeeper[server]'" in answered.stderr


def test_the_command_runs_with_its_extra(install: Install) -> None:
    command = [str(install("local")), "-I", "-m", "pagekeeper.app", "--version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == distribution("pagekeeper").version


def test_the_guide_runs_in_process_in_a_plain_install(install: Install) -> None:
    """All of it, but for the one block that calls a stack; the reader has OpenAI's client."""
    with chat_endpoint() as endpoint:
        reader = {**os.environ, "OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY}
        page, blocks = ROOT / "docs" / "guide.md", ROOT / "tests" / "e2e" / "guide_blocks.py"
        command = [str(part) for part in (install(beside=("openai",)), "-I", blocks, page)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, env=reader)
    outcomes = [json.loads(line) for line in shown.stdout.splitlines()]
    (without,) = (outcome["missing"] for outcome in outcomes if outcome["missing"])
    assert without in (["grpc"], ["google"])
    assert not [outcome["line"] for outcome in outcomes if not outcome["missing"] and not outcome["right"]]
