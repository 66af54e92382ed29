"""One virtual memory: a conversation folds alike in a stack's services and in a program's own process.

The stack is all five services in one process, on fakes of log, queue and store; what it does in the background is done
at once. The other side is `pagekeeper.memory` alone. Prompts, residents and what left the prompt are compared.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count, islice
from random import Random
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import load_conversations
from pagekeeper.app.compose import Platform, compose
from pagekeeper.app.descriptors import MEMORY
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.client.api import MemoryService
from pagekeeper.client.connection import Pagekeeper
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.errors import BudgetTooSmall, PagekeeperError
from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.core.pages import MessageRole
from pagekeeper.core.session import Session
from pagekeeper.fault_handler.compression_runner import InlineCompressor
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.memory import FaultResult, SessionManager, WorkingSetConfig
from pagekeeper.memory.embedder import shared_embedder
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.pool import InlinePool
from pagekeeper.runtime.queue.port import PUBLISH_TIMEOUT_SECONDS, Retries, WorkItem
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.runtime.work import COMPRESS
from pagekeeper.v1 import page_pb2
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_bucket import MemoryBucket
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue

Act = Callable[[SessionManager], Awaitable[Any]]

IN_THE_STACK = SessionKey(TenantId("-"), SessionId("s"))


class Compressions(MemoryQueue):
    """A queue that hands its compressions to who asks for them."""

    def __init__(self) -> None:
        super().__init__(Retries())
        self.waiting: list[WorkItem] = []

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        await super().publish(kind, key, work_id, data, timeout_seconds=timeout_seconds)
        if kind == COMPRESS:
            self.waiting.append(WorkItem(kind, key, work_id, data, delivery=1))


class Both:
    """One conversation, in a stack and in this process."""

    def __init__(self, stack: Platform, queue: Compressions, pagekeeper: Pagekeeper, **config: Any) -> None:  # noqa: ANN401 - settings
        self._stack = stack
        self._queue = queue
        settings = WorkingSetConfig(**config)
        self.there = SessionManager("s", client=pagekeeper, vm_config=settings)
        self.here = SessionManager("s", enable_vm=True, vm_config=settings)

    @classmethod
    async def begin(cls, **config: Any) -> "Both":  # noqa: ANN401 - as above
        clock, queue, numbers = ManualClock(), Compressions(), count()
        store = BlobStore(MemoryBucket(clock), Random(1))
        await store.ensure_bucket()
        storage = artifact_storage.compose(store, lambda: f"{next(numbers):08x}")
        runner = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)
        stack = compose(MemoryLog(), queue, storage, shared_embedder(), runner, NoSummariser(), clock, InlinePool())
        return cls(stack, queue, Pagekeeper(cast(MemoryService, local(MEMORY, stack.gateway)), clock, 600), **config)

    async def do(self, act: Act) -> tuple[Any, Any]:  # what the act answers
        """The same on both sides, and what both answer."""
        there, here = await act(self.there), await act(self.here)
        await self._stack.page_table.outbox.publish()
        while self._queue.waiting:
            await self._stack.fault_handler.service.work_compress(self._queue.waiting.pop(0))
        return there, here

    async def update(self, page_id: str, text: str) -> None:
        """Another version of a message, where there is one of that id."""
        assert self.here.vm is not None
        known = self.here.vm.session.page(page_id)
        if known is None or known.role is MessageRole.TOOL:
            return
        again = page_pb2.PageInput(page_id=page_id, text=text, new_version=True)
        page = await self.there.session.page(page_id)
        for name in ("role", "page_type", "modality", "importance", "pinned"):
            setattr(again, name, getattr(page, name))

        async def append_or_update(sm: SessionManager) -> object:
            return await sm.session.append(again) if sm.vm is None else sm.vm.update_page(page_id, text)

        await self.do(append_or_update)

    async def folded(self) -> tuple[Session, Session]:
        assert self.here.vm is not None
        return await self._stack.sessions.read(IN_THE_STACK, strict=True), self.here.vm.session

    async def compare(self) -> None:
        there, here = await self.folded()
        assert list(there.working_set) == list(here.working_set)
        assert there.counters == here.counters
        assert there.recent_evictions == here.recent_evictions
        assert [page.page_id for page in there.mapped_pages()] == [page.page_id for page in here.mapped_pages()]
        assert await prompt_of(self.there) == await prompt_of(self.here)


async def prompt_of(sm: SessionManager) -> object:
    """What is sent; or what it would need."""
    try:
        return await sm.build_request()
    except BudgetTooSmall as refused:
        return refused.needed_tokens


def said(role: str, text: str) -> Act:
    match role:
        case "user":
            return lambda sm: sm.user_says(text)
        case "tool":
            return lambda sm: sm.tool_used("search", {}, text)
        case _:
            return lambda sm: sm.ai_responds(text)


async def test_the_demonstrations_conversation_folds_alike() -> None:
    [conversation, *_] = load_conversations(DEFAULT_FILE)
    both = await Both.begin(max_l0_tokens=6_000, reserved_tokens=1_500)
    for number, message in enumerate(islice(conversation.messages(), 240)):
        if message.text:  # an answer that only called tools says nothing
            await both.do(said(message.role, message.text))
        if number % 10 == 0:
            await both.compare()
    await both.compare()
    there, _ = await both.folded()
    assert there.counters.evictions_total > 20


WORDS = st.sampled_from(
    ("PostgreSQL", "EdDSA", "the ledger", "port 8080", "Havenbrot", "in March", "What did we decide?")
)
TEXTS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)
LARGE = st.builds(lambda text, times: f"{text}\n" * times, TEXTS, st.integers(20, 80))
"""Of a message that the working set has no room for."""
ACTS = st.one_of(
    st.tuples(st.sampled_from(("user", "user", "tool")), LARGE),
    st.tuples(st.sampled_from(("user", "assistant", "tool")), TEXTS),
    st.tuples(st.just("fault"), st.integers(1, 12), st.integers(0, 3)),
    st.tuples(st.just("update"), st.integers(1, 12), TEXTS),
    st.tuples(st.sampled_from(("pin", "unpin")), st.integers(1, 12)),
    st.tuples(st.sampled_from(("checkpoint", "restore"))),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS, min_size=4, max_size=24))
async def test_any_history_folds_alike(acts: list[tuple[Any, ...]]) -> None:
    both = await Both.begin(max_l0_tokens=1_600, reserved_tokens=800)
    checkpoints: list[tuple[str, str]] = []
    await both.do(said("user", "Hello."))
    for kind, *given_ in acts:
        match kind:
            case "fault":
                there, here = await both.do(partial(fault, *given_))
                assert (there.success, there.error) == (here.success, here.error)
            case "pin" | "unpin":
                there, here = await both.do(partial(pin, kind, *given_))
                assert there == here
            case "update":
                page, text = given_
                await both.update(f"p{page}", text)
            case "checkpoint":
                there, here = await both.do(lambda sm: sm.checkpoint("c"))
                checkpoints.append((there, here))
            case "restore":
                if checkpoints:
                    there, here = checkpoints[-1]
                    await both.there.restore_checkpoint(there)
                    await both.here.restore_checkpoint(here)
            case _:
                await both.do(said(kind, *given_))
        await both.compare()


async def fault(page: int, level: int, sm: SessionManager) -> FaultResult:
    return await sm.handle_fault(f"p{page}", level)


async def pin(kind: str, page: int, sm: SessionManager) -> str:
    return await refused(sm.pin_page(f"p{page}") if kind == "pin" else sm.unpin_page(f"p{page}"))


async def refused(call: Awaitable[object]) -> str:
    """How a call was refused; nothing when it was not."""
    try:
        await call
    except PagekeeperError as error:
        return error.message
    return ""
