"""What a test may touch and when it runs, decided by the folder that it is in.

Folders run in the order of `FOLDERS`. Laws, histories and simulations have no sockets. Tests that start servers share
them by file, or by the group that a file puts itself into, and those that break things or need the machine for
themselves run one after another.

With several workers the tests of a group run on one of them. The group that takes longest begins first, and what is
shared out test by test comes last, so that no worker waits for another at the end.
"""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parent
FOLDERS = ("unit", "model", "tidy", "golden", "contract", "simulation", "integration", "faults", "e2e")
FOLDERS_OF_WORKERS = ("faults", "e2e", "unit", "model", "tidy", "golden", "integration", "contract", "simulation")
WITHOUT_SOCKETS = frozenset({"unit", "model", "tidy", "golden", "simulation"})
WITH_SHARED_SERVERS = frozenset({"contract", "integration"})
GROUP = re.compile(r'^pytestmark = pytest\.mark\.xdist_group\("(.+)"\)$', re.MULTILINE)

# One commit gives one verdict; `--hypothesis-profile=search` looks for new counterexamples instead.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile("repeatable")


def folder(path: Path) -> str:
    """The folder under tests/ that a test file stands in."""
    return path.relative_to(TESTS).parts[0]


@cache
def group_of_file(path: Path) -> str | None:
    """The tests that a file's tests run one after another with; None when they run with any."""
    place = folder(path)
    if place in WITHOUT_SOCKETS:
        return None
    if place in WITH_SHARED_SERVERS:
        named = GROUP.search(path.read_text())
        return named[1] if named is not None else str(path)
    return "one at a time"


class Groups(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Each test goes to the next worker that is free, the tests of a group to the same one.

    xdist's own `loadgroup` writes the group into a test's id, where pytest 9.2 does not look.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of_file(TESTS.parent / nodeid.partition("::")[0]) or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = FOLDERS_OF_WORKERS if "PYTEST_XDIST_WORKER" in os.environ else FOLDERS
    items.sort(key=lambda item: (order.index(folder(item.path)), group_of_file(item.path) in (None, str(item.path))))
    for item in items:
        if folder(item.path) in WITHOUT_SOCKETS:
            item.add_marker("disable_socket")
