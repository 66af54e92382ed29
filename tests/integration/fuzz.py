"""The gateway under inputs that are made to break it: what is answered, and what may not be.

`python -m tests.integration.fuzz --count 100000 --seed 1 --json FILE`. The services stand on the in-memory fakes of the
stores; the server, its sockets and its callers are real.

The law: every call ends with an answer or with a refusal of ours, which has an ErrorInfo. No refusal is INTERNAL or
UNKNOWN, no defect is logged, nothing hangs, and another tenant's session stays as it is.
"""

import argparse
import asyncio
import gc
import json
import logging
import platform as machine
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from pagekeeper.app.descriptors import MEMORY
from pagekeeper.core.ids import TenantId
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.errors import STATUS_DETAILS
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.integration.fuzz_inputs import CHECKPOINT, PATIENCE_SECONDS, Input, Inputs, bad_tokens
from tests.integration.rpc_services import Surroundings
from tests.unit.platforms import Platforms

BLOCK: Final = 50
"""Inputs on one session; then the next one, because an input may have closed or deleted it."""
STACK: Final = 5_000
"""Inputs on one stack."""
DEFECTS: Final = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
}
"""Nothing is broken here but what the inputs break."""
VIOLATIONS_MAX: Final = 20
MS: Final = 1_000


@dataclass
class Findings:
    """What a campaign came to."""

    inputs: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    slowest: str = ""


class _Defects(logging.Handler):
    """Keeps what a server logs of its defects."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.lines.append(f"{record.getMessage()}{cause}")


class _Stack:
    """The platform behind a port, with a session for each block of inputs and another tenant's."""

    def __init__(self, channel: grpc.aio.Channel, surroundings: Surroundings) -> None:
        self.channel = channel
        self.attacker = surroundings.tokens.authorization(_caller("attacker"))
        self.victim = surroundings.tokens.authorization(_caller("victim"))

    async def ask(self, method: str, request: Any, response: Any, authorization: str) -> Any:  # noqa: ANN401 - of any RPC
        call: Any = self.channel.unary_unary(
            f"/{MEMORY.full_name}/{method}", type(request).SerializeToString, response.FromString
        )
        return await call(request, metadata=(("authorization", authorization),), timeout=PATIENCE_SECONDS)

    async def prepare(self, session_id: str, authorization: str) -> None:
        """A session with a page of each kind, and a checkpoint."""
        await self.ask(
            "OpenSession", pb.OpenSessionRequest(session_id=session_id), pb.OpenSessionResponse, authorization
        )
        role, kind = page_pb2.MessageRole, page_pb2.Modality
        pages = [
            page_pb2.PageInput(page_id="u1", role=role.MESSAGE_ROLE_USER, text="hello, what of the parcel depot?"),
            page_pb2.PageInput(page_id="a1", role=role.MESSAGE_ROLE_ASSISTANT, text="it is open " * 40),
            page_pb2.PageInput(page_id="t1", role=role.MESSAGE_ROLE_TOOL, text="12 parcels", tool_call_id="call_1"),
            page_pb2.PageInput(page_id="j1", modality=kind.MODALITY_STRUCTURED, text='{"parcels": [1, 2, {"x": "é"}]}'),
            page_pb2.PageInput(page_id="u2", role=role.MESSAGE_ROLE_USER, text=VICTIMS_WORDS),
        ]
        append = pb.AppendPagesRequest(session_id=session_id, pages=pages)
        await self.ask("AppendPages", append, pb.AppendPagesResponse, authorization)
        check = pb.CreateCheckpointRequest(session_id=session_id, checkpoint_id=CHECKPOINT)
        await self.ask("CreateCheckpoint", check, pb.CreateCheckpointResponse, authorization)

    async def victims_words(self) -> str:
        request = pb.ReadPageRequest(session_id="own", page_id="u2")
        read = await self.ask("ReadPage", request, pb.ReadPageResponse, self.victim)
        return str(read.content.text)


VICTIMS_WORDS: Final = "what another tenant said, word for word"


def _caller(tenant: str) -> Caller:
    return Caller(TenantId(tenant), "fuzz", None, "fuzz")


@asynccontextmanager
async def _stack() -> AsyncIterator[_Stack]:
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as directory:
        surroundings = Surroundings(Path(directory))
        replica = (await Platforms(clock).open()).replica()
        async with (
            Background(clock, Random(1)) as background,
            surroundings.server({MEMORY: replica.platform.gateway}) as server,
            grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", options=[("grpc.max_receive_message_length", -1)]
            ) as channel,
        ):
            replica.platform.start(background)
            stack = _Stack(channel, surroundings)
            await stack.prepare("own", stack.victim)
            yield stack


async def fuzz(count: int, seed: int, first: int = 0) -> Findings:
    """Send the inputs from `first` on, one after the other, until VIOLATIONS_MAX laws were broken."""
    found, defects = Findings(), _Defects()
    logging.getLogger().addHandler(defects)
    try:
        for start in range(first, first + count, STACK):
            async with _stack() as stack:
                await _campaign(stack, found, defects, seed, range(start, min(start + STACK, first + count)))
            gc.collect()
            if len(found.violations) >= VIOLATIONS_MAX:
                break
    finally:
        logging.getLogger().removeHandler(defects)
    return found


async def _campaign(stack: _Stack, found: Findings, defects: _Defects, seed: int, numbers: range) -> None:
    inputs = Inputs(seed, stack.attacker, bad_tokens(stack.attacker))
    for number in numbers:
        if number % BLOCK == 0 or number == numbers.start:
            await stack.prepare(f"s{number // BLOCK}", stack.attacker)
        one = inputs.make(number, f"s{number // BLOCK}")
        started = time.perf_counter()
        answer, problem = await _send(stack, one)
        took_ms = (time.perf_counter() - started) * MS
        name = f"input {number} of seed {seed}, {one.kind}, {one.method.name}"
        found.inputs += 1
        found.kinds[one.kind] += 1
        found.answers[answer] += 1
        if took_ms > found.slowest_ms:
            found.slowest_ms, found.slowest = took_ms, name
        problems = [problem] if problem else []
        problems += defects.lines
        defects.lines = []
        if number % BLOCK == BLOCK - 1 and await stack.victims_words() != VICTIMS_WORDS:
            problems.append("another tenant's page is not what it was")
        found.violations += [f"{name}: {answer}: {one_problem}" for one_problem in problems]
        if len(found.violations) >= VIOLATIONS_MAX:
            return


async def _send(stack: _Stack, one: Input) -> tuple[str, str]:
    """The name of the answer, and what is wrong with it."""
    call: Any = stack.channel.unary_stream(one.method.path)
    try:
        answers = [raw async for raw in call(one.raw, metadata=one.metadata, timeout=one.timeout_seconds)]
        for raw in answers:
            one.method.response.FromString(raw)
    except grpc.aio.AioRpcError as error:
        return _refusal(one, error)
    return "OK", ""


def _refusal(one: Input, error: grpc.aio.AioRpcError) -> tuple[str, str]:
    info, status = ErrorInfo(), Status()
    for key, value in error.trailing_metadata():
        if key == STATUS_DETAILS:
            status.ParseFromString(value)
            status.details[0].Unpack(info)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and one.timeout_seconds < PATIENCE_SECONDS:
        return "DEADLINE_EXCEEDED", ""
    if error.code() in DEFECTS or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return str(error.code().name), f"{error.details()}"
    if info.domain != "pagekeeper":
        return str(error.code().name), f"no ErrorInfo: {error.details()}"
    return str(info.reason), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=STACK)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    started = time.perf_counter()
    found = asyncio.run(fuzz(asked.count, asked.seed, asked.first))
    told = {
        "inputs": found.inputs,
        "seed": asked.seed,
        "first": asked.first,
        "date": f"{datetime.fromtimestamp(SystemClock().now_ms() / MS, UTC):%Y-%m-%d}",
        "machine": f"{machine.machine()}, {cpu_count()} cores, {machine.system()}, Python {machine.python_version()}",
        "seconds": round(time.perf_counter() - started),
        "violations": found.violations,
        "slowest_ms": round(found.slowest_ms),
        "slowest": found.slowest,
        "answers": dict(found.answers.most_common()),
        "kinds": dict(found.kinds.most_common()),
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=2) + "\n")
    raise SystemExit(bool(found.violations))


if __name__ == "__main__":
    main()
