"""Whole stacks to be killed in parts. Every test leaves everything running."""

from collections.abc import Iterator

import pytest

from pagekeeper.local.stack import LocalStack, Topology
from tests.stacks import running_stack


@pytest.fixture(scope="session")
def stack_of_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running_stack(tmp_path_factory.mktemp("one"), Topology.ONE) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack_of_five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running_stack(tmp_path_factory.mktemp("five"), Topology.FIVE) as stack:
        yield stack


@pytest.fixture(params=list(Topology))
def stack(request: pytest.FixtureRequest) -> LocalStack:
    stack: LocalStack = request.getfixturevalue(f"stack_of_{request.param}")
    return stack
