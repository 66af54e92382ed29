"""Who waits for a session waits for the log once, whoever else waited for the session before."""

import asyncio

from pagekeeper.core.errors import LogUnavailable
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.session import Session
from pagekeeper.runtime.log.port import READ_TIMEOUT_SECONDS, NoAnswer, Record
from pagekeeper.runtime.sessions import Committed, Request, Sessions
from tests.fakes.memory_log import MemoryLog
from tests.unit.faulting import FaultingReplica
from tests.unit.stack import Stores, key, ready

CALLERS = 8


class SilentLog(MemoryLog):
    """Answers no read while it is `away`: a read then takes until `time_is_up`, and is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.away = True
        self.reads = 0
        self.time_is_up = asyncio.Event()

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        self.reads += 1
        if self.away:
            await self.time_is_up.wait()
            raise NoAnswer("the log is away", maybe_applied=False)
        return await super().read(key, after_revision=after_revision, strict=strict, timeout_seconds=timeout_seconds)


async def test_all_who_waited_for_a_log_that_is_away_are_told_at_once_and_the_next_caller_asks_anew() -> None:
    log = SilentLog()
    stores = await ready(Stores())
    sessions = Sessions(log, FaultingReplica(stores, "a").blobs, stores.clock)

    async def change(number: int) -> Committed:
        return await sessions.commit(key("s1"), Request(f"r{number}", b""), lambda _: None)

    calls: list[asyncio.Task[Session | Committed]] = [
        asyncio.ensure_future(change(number) if number % 2 else sessions.read(key("s1"))) for number in range(CALLERS)
    ]
    await asyncio.sleep(0.01)
    assert log.reads == 1
    log.time_is_up.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LogUnavailable] * CALLERS
    assert log.reads == 1

    log.away = False
    session, committed = await asyncio.gather(sessions.read(key("s1")), change(CALLERS))
    assert not session.exists
    assert committed.revision == 0
    assert log.reads > 1
