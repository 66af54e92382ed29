"""A client: it sends calls to any replica, waits as long as it cares to, and repeats what may not have happened.

What it is told is held against the oracle at once.
"""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from pagekeeper.core.errors import LogFull, PagekeeperError, PageNotFound, StoreUnavailable, TooManyRequests
from pagekeeper.runtime.errors import rule
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log.port import UNHEARD_SECONDS_MAX
from tests.simulation.answers import OF_A_COPY, OF_CONTENT, check_answer, check_refusal, revision_of
from tests.simulation.programs import Call, Known, Program, copy_of
from tests.simulation.violations import Violation, check
from tests.simulation.world import Replica, World

ATTEMPTS_MAX: Final = 5
PASSING: Final = (LogFull, StoreUnavailable, TooManyRequests)
"""Definite, but worth another attempt."""


class Lost:
    """No answer came, or none that says what has happened."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a call came to. `open` says that some attempt of it may have happened unheard."""

    answer: Any
    """A response, a refusal or Lost."""
    open: bool


class Client:
    def __init__(self, world: World, program: Program, dice: Random) -> None:
        self._world = world
        self.program = program
        self.dice = dice
        self.unknown: list[Call] = []
        """Mutations of which nobody told whether they happened."""
        self.done: list[tuple[Call, Any]] = []
        """Mutations that were answered, and their answers."""
        self.never: list[Call] = []
        """Mutations that were refused for good."""

    @property
    def caller(self) -> Caller:
        return Caller(self.program.book.tenant, "simulation", None, self.program.name)

    async def run(self, calls: int) -> None:
        for _ in range(calls):
            await asyncio.sleep(self.dice.choice((0.0, 0.05, 0.5)) * self.dice.random())
            call = self.program.next_call()
            told = await self.call(call)
            if call.mutates and isinstance(told.answer, Lost | PagekeeperError):
                (self.unknown if told.open else self.never).append(call)
            if call.mutates and not isinstance(told.answer, PagekeeperError | Lost):
                self.done.append((call, told.answer))
                if self.dice.random() < 0.1:
                    await self._repeat(call, told.answer)
            if self.done and self.dice.random() < 0.1:
                await self._repeat(*self.dice.choice(self.done))

    async def call(self, call: Call, attempts_max: int = ATTEMPTS_MAX) -> Told:
        """Send a call until it is known what has become of it."""
        is_open = False
        answer: Any = Lost()
        for attempt in range(attempts_max):
            if attempt:
                await asyncio.sleep(0.2 * 2**attempt * self.dice.random())
            answer = await self._attempt(call)
            if isinstance(answer, Lost) or (isinstance(answer, PagekeeperError) and not rule(answer).definite):
                is_open = True
            elif not isinstance(answer, PASSING):
                break
        self._learn(call, answer)
        return Told(answer, is_open)

    async def _repeat(self, call: Call, first: Any) -> None:  # noqa: ANN401 - a response
        """Done once, answered alike."""
        again = (await self.call(call)).answer
        if isinstance(again, Lost):
            return
        if isinstance(again, PagekeeperError):
            truth = self._world.log.truths.get(call.key)
            gone = truth is None or not truth.session.exists
            # Only what did nothing is decided again. A fault answers the page as it is now, and the page may be gone:
            # `check_refusal` has seen that the page was.
            acted = truth is not None and call.operation_id in truth.operations
            unmapped = call.method in OF_CONTENT and isinstance(again, PageNotFound)
            check(
                gone or not acted or unmapped or not rule(again).definite or isinstance(again, PASSING),
                f"{call.operation_id} was done, and its repetition refused: {again!r}",
            )
            return
        truth = self._world.log.truths[call.key]
        if call.operation_id in truth.operations and call.method != "compress_pages":
            check(
                (call.method in OF_CONTENT or revision_of(call, again) >= truth.operations[call.operation_id])
                and _named(again) == _named(first),
                f"{call.operation_id} was answered otherwise when it was repeated",
            )

    async def _attempt(self, call: Call) -> Any:  # noqa: ANN401 - whatever was told
        world, dice = self._world, self.dice
        replica = world.replica_for(call.key, dice)
        truth = world.log.truths.get(call.key)
        floor = world.acknowledged.get(call.key, 0)
        at_start = truth.revision if truth else 0
        settled = world.acknowledged_before(call.key, UNHEARD_SECONDS_MAX)
        method = getattr(replica.api, call.method)
        work = world.loop.create_task(method(self.caller, copy_of(call.request)), context=replica.process.context)
        patience = dice.choice((0.3, 2.0, 10.0, 30.0))
        await asyncio.wait({work, replica.died}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            if dice.random() < 0.7:
                work.cancel()  # the server keeps the deadline as well
            return self._note(call, replica, Lost())
        if work.cancelled():
            raise Violation(f"{call.method}: a CancelledError escaped")
        error = work.exception()
        if error is not None and not isinstance(error, PagekeeperError):
            raise Violation(f"{call.method}: {error!r} escaped")
        if isinstance(error, PagekeeperError):
            self._note(call, replica, error)
            check_refusal(world, call, error, floor)
            return error
        answer = work.result()
        if dice.random() < 0.02:
            return self._note(call, replica, Lost())
        self._note(call, replica, answer)
        check_answer(world, call, answer, floor, at_start)
        revision = revision_of(call, answer)
        if call.method in OF_A_COPY:
            check(
                revision >= settled,
                f"{call.method}: answered revision {revision}, long after {settled} was acknowledged",
            )
        world.acknowledge(call.key, revision)
        return answer

    def _note(self, call: Call, replica: Replica, answer: Any) -> Any:  # noqa: ANN401 - passes through
        match answer:
            case Lost():
                told = "?"
            case PagekeeperError():
                told = f"{answer.reason}: {answer.message[:120]}"
            case _:
                told = f"revision {revision_of(call, answer)}"
        request = " ".join(str(call.request).split())[:160] if len(call.request.SerializeToString()) < 400 else "..."
        where = f"{call.key.tenant}/{call.key.session}"
        self._world.note(f"{self.program.name} at {replica.name}: {call.method} {where} {{{request}}} -> {told}")
        return answer

    def _learn(self, call: Call, answer: Any) -> None:  # noqa: ANN401 - whatever was told
        if isinstance(answer, Lost | PagekeeperError):
            return
        known = self.program.book.sessions.setdefault(call.key.session, Known())
        if call.method == "fork_session":
            known.page_ids += self.program.book.known(call.request.session_id).page_ids
        revision = revision_of(call, answer)
        if revision and (not known.revisions or revision > known.revisions[-1]):
            known.revisions.append(revision)
        if call.method == "append_pages":
            for sent, appended in zip(call.request.pages, answer.pages, strict=True):
                if appended.page_id not in known.kinds:
                    known.page_ids.append(appended.page_id)
                    known.kinds[appended.page_id] = sent


def _named(answer: Any) -> tuple[list[tuple[str, int]], Any]:  # noqa: ANN401 - a response
    """The pages and versions of an answer that names what it made, and its checkpoint."""
    return [(one.page_id, one.version) for one in getattr(answer, "pages", ())], getattr(answer, "checkpoint", None)
