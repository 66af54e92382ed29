"""The examples run as their readers run them: as programs that two variables tell where Pagekeeper is."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pagekeeper.local.stack import LocalStack, Topology
from tests.stacks import new_tenant, running_stack

ROOT: Final = Path(__file__).parents[2]
COMMANDS: Final = {
    "python": (sys.executable, "examples/python/quickstart.py"),
    "typescript": ("node", "examples/typescript/build/quickstart.js"),
    "go": ("examples/go/quickstart",),
}
LANGUAGES: Final = os.environ.get("EXAMPLES", "python").split()
"""`make examples` names more than one, after it has built them."""

RUN_SECONDS: Final = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running_stack(tmp_path_factory.mktemp("examples"), Topology.ONE) as stack:
        yield stack


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_decision_is_found_again(stack: LocalStack, language: str) -> None:
    before, searched, faulted, after, refused = run(language, stack)

    assert before.endswith("the decision is not in it")
    [found] = json.loads(searched.removeprefix("search_pages "))["results"]
    answer = json.loads(faulted.removeprefix("page_fault "))
    assert answer["page"]["page_id"] == found["page_id"]
    assert answer["page"]["content"]["text"] == found["hint"]
    assert answer["effects"]["promoted_to_working_set"]
    assert after.endswith("the decision is at level 0")
    for prompt in (before, after):
        total, budget, *parts = (int(figure) for figure in re.findall(r" (\d+)\b", prompt.partition(";")[0]))
        assert sum(parts) <= total <= budget == 16_000
    assert refused.startswith("refused PAGE_NOT_FOUND ")
    assert "no-such-page" in refused


def run(language: str, stack: LocalStack) -> list[str]:
    """The lines that an example prints."""
    done = subprocess.run(
        COMMANDS[language],
        cwd=ROOT,
        env={**os.environ, "PK_ENDPOINT": stack.endpoint, "PK_TOKEN": stack.token(new_tenant(language))},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    print(f"\n{' '.join(COMMANDS[language])}\n{done.stdout}{done.stderr}")  # noqa: T201 - `make examples` shows it
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
