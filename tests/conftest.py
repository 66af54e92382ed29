"""What a test may touch and when it runs, decided by the folder that it is in.

Folders run in the order of `FOLDERS`. Laws, histories and simulations have no sockets. Tests that start servers share
them by file, or by the group that a file puts itself into, and those that break things or need the machine for
themselves run one after another.
"""

from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
FOLDERS = ("unit", "model", "tidy", "golden", "contract", "simulation", "integration", "faults", "e2e")
WITHOUT_SOCKETS = frozenset({"unit", "model", "tidy", "golden", "simulation"})
WITH_SHARED_SERVERS = frozenset({"contract", "integration"})

# One commit gives one verdict; `--hypothesis-profile=search` looks for new counterexamples instead.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile("repeatable")


def folder(path: Path) -> str:
    """The folder under tests/ that a test file stands in."""
    return path.relative_to(TESTS).parts[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FOLDERS.index(folder(item.path)))
    for item in items:
        place = folder(item.path)
        if place in WITHOUT_SOCKETS:
            item.add_marker("disable_socket")
        elif place in WITH_SHARED_SERVERS:
            if item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(str(item.path)))
        else:
            item.add_marker(pytest.mark.xdist_group("one at a time"))
