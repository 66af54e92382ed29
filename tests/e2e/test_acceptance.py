"""The main job, as a person runs it: `make run ONCE=1` replays a conversation far larger than its window.

Over 200 turns and five topics: every decision recalled with the right citation, at most two faults on a recall turn, no
prompt over the budget by the own count of the replay, thrash index under 0.5. In both topologies.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagekeeper.local.stack import Topology

ROOT = Path(__file__).parents[2]
RUN_SECONDS_MAX = 240


@pytest.mark.timeout(RUN_SECONDS_MAX + 30)
@pytest.mark.parametrize(
    ("topology", "paging"), [(Topology.FIVE, "hybrid"), (Topology.ONE, "hybrid"), (Topology.ONE, "model")]
)
def test_every_decision_is_recalled_within_the_budget(topology: Topology, paging: str, tmp_path: Path) -> None:
    report_path = tmp_path / "report.json"
    variables = {"TOPOLOGY": topology.value, "PAGING": paging, "ONCE": "1", "REPORT": str(report_path)}
    finished = subprocess.run(
        [sys.executable, "-m", "demo", "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3_000:] + finished.stderr[-3_000:]
    report: dict[str, Any] = json.loads(report_path.read_text())
    (replayed,) = report["conversations"]

    assert report["passed"]
    assert replayed["turns"] >= 300
    assert replayed["tokens_seen"] >= 150_000
    assert len(replayed["recall"]["topics"]) == 5
    assert replayed["recall"]["correct"] == replayed["recall"]["questions"] >= 5
    for answer in replayed["recall"]["answers"]:
        assert set(answer["evidence"]) & set(answer["cited"]), answer["question"]
        assert answer["faults"] <= 2, answer["question"]
    assert replayed["largest_prompt_tokens"] <= replayed["budget_tokens"] == 16_000
    assert replayed["count_difference_tokens"] == 0
    assert replayed["thrash_index"] < 0.5
    assert (replayed["recalled"] > 0) is (paging == "hybrid")
    assert replayed["faults"]["total"] > 0 or paging != "model"
    assert replayed["evictions"] > 0

    # The table that a person sees.
    assert "every decision recalled" in finished.stdout
    assert "[ref: " in finished.stdout
