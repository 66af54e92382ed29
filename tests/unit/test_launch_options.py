"""What `make run` accepts, and the one line that it says otherwise."""

from pathlib import Path

import pytest

from demo.__main__ import main
from demo.options import read_options
from pagekeeper.local.options import WrongOption
from pagekeeper.local.stack import Topology
from pagekeeper.v1.session_pb2 import DEMAND_PAGING_MODEL


def test_nothing_given_is_five_processes_until_ctrl_c() -> None:
    options = read_options({"PATH": "/bin"})
    assert options.stack.topology is Topology.FIVE
    assert (options.conversation, options.once, options.report, options.stack.directory) == (None, False, None, None)
    assert (options.stack.replicas, options.stack.nats_servers) == ({}, 1)
    assert "scripted" in options.model.name


def test_everything_given(tmp_path: Path) -> None:
    conversation = tmp_path / "talk.jsonl"
    conversation.touch()
    options = read_options(
        {
            "TOPOLOGY": "one",
            "REPLICAS": "all=2",
            "NATS": "3",
            "PAGING": "model",
            "CONVERSATION": str(conversation),
            "ONCE": "1",
            "REPORT": str(tmp_path / "report.json"),
            "MODEL_URL": "http://127.0.0.1:8080/v1",
            "MODEL": "small",
            "DATA_DIR": str(tmp_path / "new"),
        }
    )
    assert options.stack.topology is Topology.ONE
    assert options.stack.replicas == {"all": 2}
    assert options.stack.nats_servers == 3
    assert options.demand_paging == DEMAND_PAGING_MODEL
    assert options.conversation == conversation
    assert options.once
    assert options.report == tmp_path / "report.json"
    assert options.model.name == "small"
    assert options.stack.directory == tmp_path / "new"


@pytest.mark.parametrize(
    "written", ["gateway=2 fault-handler=64", "gateway=2,fault-handler=64", " fault-handler=64  gateway=2 "]
)
def test_replicas_are_named_by_service(written: str) -> None:
    options = read_options({"REPLICAS": written, "NATS": "5"})
    assert options.stack.replicas == {"gateway": 2, "fault-handler": 64}
    assert options.stack.nats_servers == 5


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TOPOLOGY", "two", "five or one"),
        ("TOPOLOGY", "FIVE", "five or one"),
        ("REPLICAS", "gateway", "gateway=N, with N from 1 to 64"),
        ("REPLICAS", "gateway=", "gateway=N"),
        ("REPLICAS", "gateway=0", "gateway=N"),
        ("REPLICAS", "gateway=65", "gateway=N"),
        ("REPLICAS", "gateway=-1", "gateway=N"),
        ("REPLICAS", "gateway=two", "gateway=N"),
        ("REPLICAS", "gateway=\u0662", "gateway=N"),
        ("REPLICAS", "gateway=2 gateway=3", "gateway twice"),
        ("REPLICAS", "gate-way=2", "page-table, working-set, fault-handler, artifact-storage, gateway"),
        ("REPLICAS", "all=2", "with TOPOLOGY=five"),
        ("REPLICAS", "=2", "with TOPOLOGY=five"),
        ("NATS", "2", "1, 3 or 5 servers"),
        ("NATS", "three", "1, 3 or 5 servers"),
        ("PAGING", "nobody", "model, runtime, hybrid"),
        ("ONCE", "maybe", "1 to end after the replay"),
        ("CONVERSATION", "/no/such/file", "no such file"),
        ("CONVERSATION", "/", "no such file"),
        ("REPORT", "/no/such/directory/report.json", "in a directory that exists"),
        ("REPORT", "/", "a file to write"),
        ("DATA_DIR", "/dev/null", "not a directory"),
        ("MODEL_URL", "localhost:8080", "http://127.0.0.1:8080/v1"),
        ("MODEL_URL", "http://127.0.0.1:8080/v1", "MODEL must name"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    variable: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WrongOption, match=said):
        read_options({variable: value})
    assert main(["run"], {variable: value}) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("pagekeeper: ")
    assert variable in shown
    assert shown.count("\n") == 1


def test_there_is_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start"], {}) == 2
    assert "usage: python -m demo run" in capsys.readouterr().err
