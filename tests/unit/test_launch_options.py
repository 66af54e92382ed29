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
    assert "scripted" in options.model.name


def test_everything_given(tmp_path: Path) -> None:
    conversation = tmp_path / "talk.jsonl"
    conversation.touch()
    options = read_options(
        {
            "TOPOLOGY": "one",
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
    assert options.demand_paging == DEMAND_PAGING_MODEL
    assert options.conversation == conversation
    assert options.once
    assert options.report == tmp_path / "report.json"
    assert options.model.name == "small"
    assert options.stack.directory == tmp_path / "new"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TOPOLOGY", "two", "five or one"),
        ("TOPOLOGY", "FIVE", "five or one"),
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
