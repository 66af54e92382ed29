"""A whole run over a real port with a small memory behind it: exit status, report, a server that dies in between."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from demo.corpus.types import ToolCall
from demo.model.port import ChatMessage, ModelFailed, Reply, ToolSchema
from demo.model.scripted import ScriptedModel
from demo.replay.run import (
    CANNOT_START,
    CHECK_FAILED,
    MODEL_FAILED,
    PASSED,
    ModelNotNamed,
    ReplayOptions,
    model_from_environment,
    run_replay,
)
from pagekeeper.app import cli
from pagekeeper.app.printing import Printer
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import methods
from pagekeeper.runtime.rpc.server import Limits, RpcServer
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.integration.rpc_services import Surroundings
from tests.servers import free_port
from tests.unit.replay_memory import TailMemory

MEMORY = pb.DESCRIPTOR.services_by_name["MemoryService"]
DECISION = "Decision on the port: we go with 8080 for the gateway."
RECALL = {"topic": "port", "answer": ["8080"], "decision_message": "m0001"}


class Behind:
    """A MemoryService that a TailMemory answers; the rest of the API is not there."""

    def __init__(self, memory: TailMemory) -> None:
        for method in methods(MEMORY):
            setattr(self, method.attribute, getattr(memory, method.attribute, self._missing))

    async def _missing(self, _: Caller, request: object) -> None:
        raise AssertionError(request)


class Giving:
    """A model that gives one reply, or raises."""

    name = counted_as = "gpt-4o"

    def __init__(self, reply: Reply | ModelFailed) -> None:
        self._reply = reply
        self.closed = False

    async def complete(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        assert messages
        assert isinstance(tools, list)
        if isinstance(self._reply, ModelFailed):
            raise self._reply
        return self._reply

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Twenty turns, a decision in the first, and a question for it at the end."""
    messages: list[dict[str, object]] = [{"role": "user", "content": DECISION}]
    for number in range(20):
        messages.append({"role": "assistant", "content": f"Noted, {number}. " + "word " * 900})
        messages.append({"role": "user", "content": f"And what of {number}?"})
    messages.append({"role": "assistant", "content": "Nothing."})
    messages.append({"role": "user", "content": "Which port did we decide on for the gateway?", "recall": RECALL})
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(messages), encoding="utf-8")
    return file


@asynccontextmanager
async def serving(surroundings: Surroundings, memory: TailMemory, port: int) -> AsyncIterator[RpcServer]:
    limits = Limits(drain_seconds=0.0)
    async with surroundings.server({MEMORY: Behind(memory)}, f"127.0.0.1:{port}", limits) as server:
        yield server


def token(surroundings: Surroundings) -> str:
    return surroundings.tokens.authorization(surroundings.caller()).removeprefix("Bearer ")


async def test_a_run_shows_and_writes_what_happened(surroundings: Surroundings, talk: Path, tmp_path: Path) -> None:
    console = Printer(file=io.StringIO(), width=100)
    async with serving(surroundings, TailMemory(), 0) as server:
        status = await run_replay(
            endpoint=f"127.0.0.1:{server.port}",
            token=token(surroundings),
            conversation=talk,
            model=ScriptedModel(),
            console=console,
            report=tmp_path / "report.json",
        )
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert status == PASSED
    assert f"✔ port: “{DECISION}” [ref: m0001]" in text
    assert "✔ every decision recalled: 1 of 1" in text
    (report,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["conversations"]
    assert (report["turns"], report["recall"]["correct"], report["faults"]["total"]) == (22, 1, 1)
    assert {"OpenSession", "AppendPages", "AssemblePrompt", "HandleToolCalls", "model"} <= set(report["calls"])


async def test_a_server_that_dies_and_comes_back_is_waited_for(
    surroundings: Surroundings, talk: Path, tmp_path: Path
) -> None:
    class Dying(TailMemory):
        """Asks to be ended in the middle of the ninth append, when it has done it."""

        async def append_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
            response = await super().append_pages(caller, request)
            if len(self.appended) == 9 and not dying.is_set():
                dying.set()
                await asyncio.Event().wait()
            return response

    dying = asyncio.Event()
    memory, port = Dying(), free_port()

    async def lives() -> None:
        async with serving(surroundings, memory, port):
            await dying.wait()
        await asyncio.sleep(1.5)
        async with serving(surroundings, memory, port):
            await ended.wait()

    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(lives())
        status = await run_replay(
            endpoint=f"127.0.0.1:{port}",
            token=token(surroundings),
            conversation=talk,
            model=ScriptedModel(),
            console=Printer(file=io.StringIO()),
            report=tmp_path / "report.json",
        )
        ended.set()
    assert status == PASSED
    assert len(memory.pages) == 44
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["passed"]


async def test_each_way_to_end_has_its_status(surroundings: Surroundings, talk: Path, tmp_path: Path) -> None:
    async def status(model: Giving, file: Path = talk, report: Path | None = None) -> int:
        async with serving(surroundings, TailMemory(), 0) as server:
            return await run_replay(
                endpoint=f"127.0.0.1:{server.port}",
                token=token(surroundings),
                conversation=file,
                model=model,
                console=Printer(file=console),
                report=report,
                options=ReplayOptions(every_conversation=True),
            )

    console = io.StringIO()
    wrong = Giving(Reply("It is 9090 [ref: m0001]."))
    assert await status(wrong) == CHECK_FAILED
    assert wrong.closed
    assert await status(Giving(Reply("", (ToolCall("c", "page_fault", "no json"),)))) == CHECK_FAILED
    failing = Giving(ModelFailed("the endpoint is gone"))
    assert await status(failing) == MODEL_FAILED
    assert failing.closed
    broken = tmp_path / "broken.json"
    broken.write_text("[", encoding="utf-8")
    assert await status(Giving(Reply("x")), broken) == CANNOT_START
    assert await status(Giving(Reply("x")), report=tmp_path / "none" / "report.json") == CANNOT_START
    text = console.getvalue()
    for problem in ("the endpoint is gone", "the file looks truncated", "the directory for the report does not exist"):
        assert problem in text


async def test_every_conversation_of_a_file_is_replayed_when_asked(
    surroundings: Surroundings, talk: Path, tmp_path: Path
) -> None:
    """Each in a session of its own: a TailMemory is one session, so this one forgets when another opens."""

    class Forgetting(TailMemory):
        async def open_session(self, caller: Caller, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
            vars(self).update(vars(Forgetting()))
            return await super().open_session(caller, request)

    lines = _twice(talk)
    report = tmp_path / "report.json"
    async with serving(surroundings, Forgetting(), 0) as server:
        for every, expected in ((False, 1), (True, 2)):
            await run_replay(
                endpoint=f"127.0.0.1:{server.port}",
                token=token(surroundings),
                conversation=lines,
                model=ScriptedModel(),
                console=Printer(file=io.StringIO()),
                report=report,
                options=ReplayOptions(every_conversation=every),
            )
            sessions = [one["session_id"] for one in json.loads(report.read_text(encoding="utf-8"))["conversations"]]
            assert len(set(sessions)) == expected


def _twice(talk: Path) -> Path:
    """The conversation of `talk` on two lines of a file."""
    line = json.dumps({"messages": json.loads(talk.read_text(encoding="utf-8"))})
    lines = talk.with_suffix(".jsonl")
    lines.write_text(f"{line}\n{line}\n", encoding="utf-8")
    return lines


def test_the_model_is_scripted_unless_an_endpoint_is_named() -> None:
    assert model_from_environment({}).name == "scripted model"
    assert model_from_environment({"MODEL_URL": "http://llm.test/v1", "MODEL": "tiny"}).name == "tiny"
    with pytest.raises(ModelNotNamed):
        model_from_environment({"MODEL_URL": "http://llm.test/v1"})


def test_a_clone_has_the_command_and_an_install_without_the_demonstration_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Path(sys.executable).with_name("pagekeeper")
    listed = subprocess.run([script, "--help"], check=True, capture_output=True, text=True)
    assert "\n  replay " in listed.stdout
    monkeypatch.setattr(cli, "find_spec", {}.get)
    refused = CliRunner().invoke(cli.main, ["replay"])
    assert refused.exit_code == 2
    assert "No such command 'replay'" in refused.output
