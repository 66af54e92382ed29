"""Sessions from opening to deletion, and lists that are read page by page while others write."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import (
    CheckpointExists,
    CheckpointNotFound,
    InvalidField,
    PageNotFound,
    RevisionConflict,
    RevisionNotFound,
    SessionClosed,
    SessionExists,
    SessionNotFound,
)
from pagekeeper.page_table.page_tokens import index_in, page_token, position_in
from pagekeeper.runtime.history import state_after
from pagekeeper.runtime.sessions import Committed
from pagekeeper.runtime.tokens import Tokenizer
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.unit.stack import WORDS, Replica, Stores, WordTokenizer, caller, key, ready


async def opened(**config: float) -> Replica:
    replica = Replica(await ready(Stores()))
    await replica.open("s1", **config)
    return replica


async def test_zeros_mean_the_defaults_that_the_api_names() -> None:
    config = (await (await opened()).open("s2")).config
    assert (config.max_l0_tokens, config.reserved_tokens, config.model) == (128_000, 4_000, "gpt-4o")
    assert (config.eviction_threshold, config.target_utilization) == (0.85, 0.50)
    assert (config.mode, config.layout) == (session_pb2.VM_MODE_STRICT, session_pb2.PROMPT_LAYOUT_CACHE_STABLE)
    small = (await (await opened()).open("s2", max_l0_tokens=1_000)).config
    assert small.reserved_tokens == 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_l0_tokens", 511),
        ("max_l0_tokens", 2_000_001),
        ("reserved_tokens", 64_001),
        ("eviction_threshold", 1.1),
        ("eviction_threshold", -0.5),
        ("eviction_threshold", float("nan")),
        ("target_utilization", 0.9),
        ("max_faults_per_turn", 101),
        ("eviction_policy", "random/1"),
        ("model", "m" * 129),
    ],
)
async def test_settings_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    replica = await opened()
    with pytest.raises(InvalidField) as refusal:
        await replica.open("s2", **{field: value})
    assert refusal.value.field == f"config.{field}"


async def test_an_id_is_opened_once_and_a_retry_is_the_same_opening() -> None:
    replica = Replica(await ready(Stores()))
    request = pb.OpenSessionRequest(request_id="r", labels={"b": "2", "a": "1"})
    first = await replica.page_table.open_session(caller(), request)
    assert await Replica(replica.stores, "b").page_table.open_session(caller(), request) == first
    request = pb.OpenSessionRequest(request_id="r2", session_id=first.session.session_id)
    with pytest.raises(SessionExists):
        await replica.page_table.open_session(caller(), request)
    other = await replica.page_table.open_session(caller("foreign"), request)
    assert other.session.session_id == first.session.session_id


async def test_configuring_changes_what_is_set_and_keeps_the_rest() -> None:
    replica = await opened(max_l0_tokens=10_000)
    request = pb.ConfigureSessionRequest(
        request_id="r",
        session_id="s1",
        config=session_pb2.SessionConfig(max_faults_per_turn=7),
        labels={"a": "1"},
        replace_labels=True,
    )
    session = (await replica.page_table.configure_session(caller(), request)).session
    assert (session.config.max_l0_tokens, session.config.max_faults_per_turn) == (10_000, 7)
    assert dict(session.labels) == {"a": "1"}
    again = pb.ConfigureSessionRequest(request_id="r2", session_id="s1", config=request.config)
    response = await replica.page_table.configure_session(caller(), again)
    assert response.session.revision == session.revision, "nothing changes, nothing is written"
    stale = pb.ConfigureSessionRequest(request_id="r3", session_id="s1", expected_revision=1, config=request.config)
    with pytest.raises(RevisionConflict):
        await replica.page_table.configure_session(caller(), stale)


async def test_a_smaller_budget_tells_what_it_cost() -> None:
    replica = await opened(max_l0_tokens=2_000, reserved_tokens=10, pin_last_turns=1)
    for number in range(10):
        await replica.append(page_pb2.PageInput(page_id=f"p{number}", text="word " * 100))
    config = session_pb2.SessionConfig(max_l0_tokens=600)
    request = pb.ConfigureSessionRequest(request_id="r", session_id="s1", config=config)
    response = await replica.page_table.configure_session(caller(), request)
    evicted = [happening.evicted.page_id for happening in response.happenings if happening.HasField("evicted")]
    assert evicted[:2] == ["p0", "p1"]


async def test_pages_are_counted_once_so_the_encoding_stays() -> None:
    class Letters(WordTokenizer):
        name = "letters"

    def tokenizer_of(model: str) -> Tokenizer:
        return Letters() if model == "other" else WORDS

    replica = Replica(await ready(Stores()), tokenizer_of=tokenizer_of)
    await replica.open()
    request = pb.ConfigureSessionRequest(
        request_id="r", session_id="s1", config=session_pb2.SessionConfig(model="other")
    )
    await replica.append(page_pb2.PageInput(text="x"))
    with pytest.raises(InvalidField):
        await replica.page_table.configure_session(caller(), request)
    request.config.model = "gpt-4o-mini"
    await replica.page_table.configure_session(caller(), request)


async def test_a_closed_session_is_read_and_not_written() -> None:
    replica = await opened()
    request = pb.CloseSessionRequest(request_id="c", session_id="s1")
    closed = (await replica.page_table.close_session(caller(), request)).session
    assert closed.state == session_pb2.SESSION_STATE_CLOSED
    request.request_id = "c2"
    assert (await replica.page_table.close_session(caller(), request)).session.revision == closed.revision
    with pytest.raises(SessionClosed):
        await replica.append(page_pb2.PageInput(text="x"))
    await replica.page_table.get_session(caller(), pb.GetSessionRequest(session_id="s1"))


async def test_a_deleted_session_is_gone_for_everybody_and_its_id_stays_taken() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="x"))
    request = pb.DeleteSessionRequest(request_id="d", session_id="s1")
    first = await replica.page_table.delete_session(caller(), request)
    assert await replica.page_table.delete_session(caller(), request) == first
    for reader in (replica, Replica(replica.stores, "b")):
        with pytest.raises(SessionNotFound):
            await reader.page_table.get_session(caller(), pb.GetSessionRequest(session_id="s1"))
        with pytest.raises(SessionNotFound):
            await reader.lookup("p")
        with pytest.raises(SessionNotFound):
            await reader.snapshot()
        with pytest.raises(SessionNotFound):
            await reader.flush()
    with pytest.raises(SessionExists):
        await replica.open()


async def test_a_revision_that_was_not_reached_is_not_answered() -> None:
    replica = await opened()
    request = pb.GetSessionRequest(session_id="s1", min_revision=99)
    with pytest.raises(RevisionNotFound):
        await replica.page_table.get_session(caller(), request)


async def test_sessions_are_listed_by_id_page_by_page() -> None:
    replica = Replica(await ready(Stores()))
    for number in range(23):
        request = pb.OpenSessionRequest(
            request_id=f"o{number}", session_id=f"s{number:02}", labels={"even": str(number % 2 == 0)}
        )
        await replica.page_table.open_session(caller(), request)
    await replica.page_table.delete_session(caller(), pb.DeleteSessionRequest(request_id="d", session_id="s03"))
    await replica.page_table.open_session(caller("foreign"), pb.OpenSessionRequest(request_id="o", session_id="s99"))

    async def listed(**wanted: object) -> list[str]:
        found, token = [], ""
        while True:
            request = pb.ListSessionsRequest(page_token=token, **wanted)  # type: ignore[arg-type]  # fields by name
            response = await replica.page_table.list_sessions(caller(), request)
            found += [session.session_id for session in response.sessions]
            token = response.next_page_token
            if not token:
                return found

    everything = [f"s{number:02}" for number in range(23) if number != 3]
    for page_size in (1, 4, 22, 23, 0):
        assert await listed(page_size=page_size) == everything
    even = [session_id for session_id in everything if int(session_id[1:]) % 2 == 0]
    assert await listed(page_size=3, labels={"even": "True"}) == even


async def test_pages_are_listed_in_mapping_order_while_others_come_and_go() -> None:
    replica = await opened()
    await replica.append(*(page_pb2.PageInput(page_id=f"p{number}", text="x") for number in range(5)))

    async def page(token: str, **wanted: object) -> pb.ListPagesResponse:
        request = pb.ListPagesRequest(session_id="s1", page_size=2, page_token=token, **wanted)  # type: ignore[arg-type]  # fields by name
        return await replica.page_table.list_pages(caller(), request)

    first = await page("")
    assert [one.page_id for one in first.pages] == ["p0", "p1"]
    await replica.page_table.unmap_pages(
        caller(), pb.DropPagesRequest(request_id="d", session_id="s1", page_ids=["p0", "p3"])
    )
    await replica.append(page_pb2.PageInput(page_id="p1", text="y", new_version=True))
    await replica.append(page_pb2.PageInput(page_id="p9", text="{}", modality=page_pb2.MODALITY_STRUCTURED))
    second = await page(first.next_page_token)
    assert [one.page_id for one in second.pages] == ["p2", "p4"]
    third = await page(second.next_page_token)
    assert ([one.page_id for one in third.pages], third.next_page_token) == (["p9"], "")
    structured = await page("", modality=page_pb2.MODALITY_STRUCTURED, tier=page_pb2.STORAGE_TIER_L0)
    assert [one.page_id for one in structured.pages] == ["p9"]
    assert not (await page("", tier=page_pb2.STORAGE_TIER_L2)).pages


async def test_checkpoints_name_revisions() -> None:
    replica = await opened()
    revision = (await replica.append(page_pb2.PageInput(text="x"))).revision
    for number in range(5):
        request = pb.CreateCheckpointRequest(request_id=f"c{number}", session_id="s1", checkpoint_id=f"c{number}")
        created = await replica.page_table.create_checkpoint(caller(), request)
        assert await replica.page_table.create_checkpoint(caller(), request) == created
        if number == 0:
            assert (created.checkpoint.revision, created.checkpoint.page_count) == (revision, 1)
    taken = pb.CreateCheckpointRequest(request_id="other", session_id="s1", checkpoint_id="c0")
    with pytest.raises(CheckpointExists):
        await replica.page_table.create_checkpoint(caller(), taken)
    listing = pb.ListCheckpointsRequest(session_id="s1", page_size=2)
    first = await replica.page_table.list_checkpoints(caller(), listing)
    delete = pb.DeleteCheckpointRequest(request_id="d", session_id="s1", checkpoint_id="c1")
    await replica.page_table.delete_checkpoint(caller(), delete)
    listing.page_token = first.next_page_token
    second = await replica.page_table.list_checkpoints(caller(), listing)
    assert [one.checkpoint_id for one in [*first.checkpoints, *second.checkpoints]] == ["c0", "c1", "c2", "c3"]
    with pytest.raises(CheckpointNotFound):
        await replica.page_table.get_checkpoint(caller(), pb.GetCheckpointRequest(session_id="s1", checkpoint_id="c1"))


async def test_a_retry_answers_the_checkpoint_that_it_made_whatever_has_the_id_now() -> None:
    stores = await ready(Stores())
    replica, cold = Replica(stores), Replica(stores)
    await replica.open("s1")
    create = pb.CreateCheckpointRequest(request_id="first", session_id="s1", checkpoint_id="c", name="then")
    created = await replica.page_table.create_checkpoint(caller(), create)
    delete = pb.DeleteCheckpointRequest(request_id="gone", session_id="s1", checkpoint_id="c")
    await replica.page_table.delete_checkpoint(caller(), delete)
    again = pb.CreateCheckpointRequest(request_id="second", session_id="s1", checkpoint_id="c", name="now")
    for retried in (replica, cold):
        assert await retried.page_table.create_checkpoint(caller(), create) == created
    other = await replica.page_table.create_checkpoint(caller(), again)
    assert other.checkpoint.revision > created.checkpoint.revision
    for retried in (replica, cold):
        assert await retried.page_table.create_checkpoint(caller(), create) == created
        assert await retried.page_table.create_checkpoint(caller(), again) == other


async def test_what_a_commit_left_is_not_found_once_the_session_is_deleted() -> None:
    replica = await opened()
    earlier = await replica.sessions.read(key("s1"))
    done = Committed(earlier, earlier.revision, earlier.revision, (), repeated=True)
    await replica.append(page_pb2.PageInput(text="x"))
    assert (await state_after(replica.history, key("s1"), done)).revision == done.revision < earlier.revision
    delete = pb.DeleteSessionRequest(request_id="d", session_id="s1")
    await replica.page_table.delete_session(caller(), delete)
    with pytest.raises(SessionNotFound):
        await state_after(replica.history, key("s1"), done)


async def test_a_page_tells_its_history_in_order() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="x " * 200))
    await replica.append(page_pb2.PageInput(page_id="other", text="y"))
    link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id="other")
    await replica.page_table.link_pages(
        caller(), pb.LinkPagesRequest(request_id="l", session_id="s1", page_id="p", links=[link])
    )
    await replica.flush()
    await replica.snapshot()
    await replica.append(page_pb2.PageInput(page_id="p", text="z", new_version=True))
    await replica.page_table.unmap_pages(caller(), pb.DropPagesRequest(request_id="d", session_id="s1", page_ids=["p"]))
    told: list[str | None] = []
    token = ""
    while True:
        request = pb.GetPageHistoryRequest(session_id="s1", page_id="p", page_size=2, page_token=token)
        response = await replica.page_table.get_page_history(caller(), request)
        told += [entry.WhichOneof("event") for entry in response.entries]
        token = response.next_page_token
        if not token:
            break
    assert told == ["mapped", "admitted", "linked", "placed", "mapped", "admitted", "unmapped", "evicted"]
    with pytest.raises(PageNotFound):
        await replica.page_table.get_page_history(caller(), pb.GetPageHistoryRequest(session_id="s1", page_id="never"))


@settings(max_examples=50)
@given(st.text(max_size=30), st.integers(0, 2**63))
def test_a_page_token_belongs_to_its_list(name: str, position: int) -> None:
    listed = f"a{name.encode('utf-8', 'ignore').hex()}"
    token = page_token(listed, str(position))
    assert index_in(listed, token) == position
    assert position_in(listed, "") == ""
    for other, wrong in ((f"{listed}x", token), (listed, token[1:]), (listed, "!"), (listed, page_token(listed, "x"))):
        with pytest.raises(InvalidField):
            index_in(other, wrong)


async def test_too_many_lookups_are_refused() -> None:
    replica = await opened()
    for page_ids in ([], ["p"] * 1_025):
        with pytest.raises(InvalidField):
            await replica.page_table.lookup(caller(), table_pb.LookupRequest(session_id="s1", page_ids=page_ids))


async def test_replicas_that_write_at_once_all_succeed() -> None:
    stores = await ready(Stores())
    replicas = [Replica(stores, name) for name in "abcd"]
    await replicas[0].open()
    for _ in range(5):
        await asyncio.gather(*(replica.append(page_pb2.PageInput(text="x")) for replica in replicas))
    states = {await replica.state() for replica in replicas}
    assert len(states) == 1
    assert len((await replicas[0].fold()).pages) == 20
