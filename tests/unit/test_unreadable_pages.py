"""One bad page never takes a prompt down: it is left out, listed, and told to whoever asks for that very page."""

import json
from itertools import count
from random import Random
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagekeeper.app.compose import compose
from pagekeeper.app.descriptors import MEMORY
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.client import assistant, user
from pagekeeper.client.api import MemoryService
from pagekeeper.client.connection import Pagekeeper
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.errors import ContentCorrupt, PagekeeperError, StoreUnavailable
from pagekeeper.fault_handler.compression_runner import InlineCompressor
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.memory.embedder import shared_embedder
from pagekeeper.runtime.blobs.port import BlobBroken, BlobCorrupt, BlobError, BlobMissing, BlobUnavailable
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.pool import InlinePool
from pagekeeper.runtime.queue.port import Retries
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import error_reason_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_bucket import MemoryBucket
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue
from tests.unit.test_artifact_storage import BadObjects

BAD: dict[BlobError, type[PagekeeperError]] = {
    BlobBroken("broke off"): ContentCorrupt,
    BlobCorrupt("another digest"): ContentCorrupt,
    BlobMissing("gone"): ContentCorrupt,
    BlobUnavailable("500"): StoreUnavailable,
}


async def stack() -> tuple[Pagekeeper, BadObjects]:
    clock, numbers = ManualClock(), count()
    bucket = BadObjects(MemoryBucket(clock))
    store = BlobStore(bucket, Random(1))
    await store.ensure_bucket()
    storage = artifact_storage.compose(store, lambda: f"{next(numbers):08x}")
    runner = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)
    services = compose(
        MemoryLog(), MemoryQueue(Retries()), storage, shared_embedder(), runner, NoSummariser(), clock, InlinePool()
    )
    return Pagekeeper(cast(MemoryService, local(MEMORY, services.gateway)), clock, 600), bucket


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([None, None, *BAD]), min_size=1, max_size=6), st.booleans())
async def test_a_page_that_cannot_be_read_is_left_out_and_listed(
    outcomes: list[BlobError | None],
    answered: bool,  # noqa: FBT001 - drawn
) -> None:
    pagekeeper, bucket = await stack()
    session = await pagekeeper.open_session()
    for number, outcome in enumerate(outcomes):
        await session.append(user(f"Fact {number} is {number * 17}.", page_id=f"f{number}"))
        await session.flush()
        page = await session.page(f"f{number}")
        if outcome is not None:
            bucket.bad[page.representations[0].placement.extent.object_key] = outcome
    if answered:
        await session.append(assistant("I see.", page_id="a"))
    bad = {f"f{number}": BAD[outcome] for number, outcome in enumerate(outcomes) if outcome is not None}
    prompt = await session.assemble()
    assert set(prompt.unreadable_page_ids) == bad.keys()
    text = "\n".join(message.content for message in prompt.messages)
    for number, outcome in enumerate(outcomes):
        assert (f"Fact {number} is {number * 17}." in text) is (outcome is None)
    assert prompt.messages[-1].content.rstrip().endswith(("</VM:STATUS>", ".", "]"))
    for page_id, error in bad.items():
        with pytest.raises(error):
            await session.read(page_id)
        if error is ContentCorrupt:
            call = pb.ToolCall(id="c", name="page_fault", arguments_json=json.dumps({"page_id": page_id, "offset": 0}))
            (message,) = await session.handle_tool_calls(call)
            assert message.failure == error_reason_pb2.ERROR_REASON_CONTENT_CORRUPT
    if bad and not answered and f"f{len(outcomes) - 1}" in bad:
        assert f"page f{len(outcomes) - 1}, cannot be read" in prompt.messages[-1].content
    bucket.bad.clear()
    again = await session.assemble()
    assert not again.unreadable_page_ids
    assert all(f"Fact {n} is {n * 17}." in "\n".join(m.content for m in again.messages) for n in range(len(outcomes)))


async def test_a_page_too_large_for_the_working_set_is_the_question_all_the_same() -> None:
    pagekeeper, _ = await stack()
    session = await pagekeeper.open_session(max_l0_tokens=4_000, reserved_tokens=1_500)
    large = "\n".join(f"row {n}: bolt {n * 7} costs {n % 9} euro" for n in range(9_000))
    await session.append(user("Hello."), assistant("Hi."), user(f"{large}\nWhich is dearest?", page_id="q"))
    appended = await session.assemble()
    assert appended.input_chars_missing > 100_000
    assert appended.messages[-1].content.endswith("Which is dearest?")
    assert "page_fault with page_id q" in appended.messages[-1].content
    assert '"q":' in appended.messages[0].content
    given_too = await session.assemble(user_input=f"{large}\nWhich is dearest?")
    assert given_too.messages == appended.messages
    other = await session.assemble(user_input=f"{large}\nWhich is cheapest?")
    assert other.messages[-1].content.endswith("Which is cheapest?")
    assert other.input_chars_missing > 100_000
    assert max(one.tokens.total for one in (appended, given_too, other)) <= 4_000
