"""What is wrong with a request is said by code, reason and field, and a request that is refused changes nothing."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo  # type: ignore[import-untyped]
from grpc_status import rpc_status

from pagekeeper.client import Pagekeeper, Session, assistant, claim, user
from pagekeeper.core.errors import (
    BudgetTooSmall,
    CheckpointNotFound,
    ContentTooLarge,
    InvalidField,
    PageExists,
    PagekeeperError,
    PageNotFound,
    PinBudgetExceeded,
    RequestIdReused,
    RevisionConflict,
    SessionClosed,
    SessionExists,
    SessionNotFound,
)
from pagekeeper.local.stack import LocalStack
from pagekeeper.runtime.rpc.methods import Method, methods
from pagekeeper.v1 import error_reason_pb2, memory_service_pb2_grpc, page_pb2, session_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.integration.requests import CHOSEN_BY_THE_SERVER, SERVICE, filled

pytestmark = pytest.mark.xdist_group("stacks")

METHODS = methods(SERVICE)
BAD_IDS = (
    "",
    " ",
    "a*",
    "*",
    ">",
    "a>b",
    "a=2Eb",
    "a,b",
    "a%2Fb",
    "a\\b",
    "a\0b",
    "a\n",
    "$SYS",
    "ä",
    "x" * 65,
    "x" * 1_000_000,
)
MAY_BE_EMPTY = CHOSEN_BY_THE_SERVER | {("OpenSessionRequest", "session_id"), ("PageInput", "page_id")}
OPAQUE = frozenset({("ToolCall", "id"), ("PageInput", "tool_call_id")})


@pytest.fixture
def stack(stack_of_one: LocalStack) -> LocalStack:
    return stack_of_one


@pytest.fixture
async def session(alice: Pagekeeper) -> Session:
    session = await alice.open_session(max_l0_tokens=8_000)
    await session.append(user("hello", page_id="hello"))
    return session


@asynccontextmanager
async def refused(session: Session, kind: type[PagekeeperError], **metadata: str) -> AsyncIterator[None]:
    """The block is refused for that reason with at least that metadata, and the session is as it was before."""
    before = await session.replay()
    with pytest.raises(kind) as caught:
        yield
    assert metadata.items() <= caught.value.metadata.items()
    after = await session.replay()
    assert (after.revision, after.state_digest) == (before.revision, before.state_digest)
    assert after.matches_served_state


async def call(pagekeeper: Pagekeeper, method: Method, request: Any) -> Any:  # noqa: ANN401 - whichever RPC it is
    invoke = getattr(pagekeeper.api, method.attribute)
    if method.streams:
        return [part async for part in invoke(pagekeeper.caller(), request)]
    return await invoke(pagekeeper.caller(), request)


def id_fields(kind: type[Message], path: str = "") -> Iterator[tuple[str, bool, Callable[[Any, str], None]]]:
    """The path of every id in a request, whether it may be empty, and how to set it."""
    fields: Sequence[Any] = kind.DESCRIPTOR.fields
    for field in fields:
        name, place = field.name, (kind.DESCRIPTOR.name, field.name)
        if field.message_type is not None and field.message_type.name in ("PageInput", "PageLink", "FaultPageRequest"):
            inside = "[0]." if field.is_repeated else "."
            for inner, may_be_empty, put in id_fields(GetMessageClass(field.message_type), f"{path}{name}{inside}"):
                yield inner, may_be_empty, _within(field, put)
        elif (name == "id" or name.endswith(("_id", "_ids"))) and place not in OPAQUE:
            yield f"{path}{name}{'[0]' if field.is_repeated else ''}", _may_be_empty(place), _putting(field)


def _may_be_empty(place: tuple[str, str]) -> bool:
    return place[1] == "request_id" or place in MAY_BE_EMPTY


def _within(field: FieldDescriptor, put: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def put_inside(message: Any, value: str) -> None:  # noqa: ANN401 - whichever message it is
        inner = getattr(message, field.name)
        if field.is_repeated and not inner:
            inner.add()
        if isinstance(inner[0] if field.is_repeated else inner, page_pb2.PageLink):
            inner[0].kind = page_pb2.LINK_KIND_REFERS_TO
        put(inner[0] if field.is_repeated else inner, value)

    return put_inside


def _putting(field: FieldDescriptor) -> Callable[[Any, str], None]:
    def put(message: Any, value: str) -> None:  # noqa: ANN401 - whichever message it is
        if field.is_repeated:
            message.ClearField(field.name)
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)

    return put


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_every_id_of_every_rpc_has_the_one_grammar(method: Method, alice: Pagekeeper, session: Session) -> None:
    checkpoint = await session.checkpoint("here")
    tried = 0
    async with refused(session, InvalidField):
        for path, may_be_empty, put in id_fields(method.request):
            for bad in BAD_IDS:
                if not bad and may_be_empty:
                    continue
                request = filled(method.request, session.session_id, "hello", checkpoint.checkpoint_id)
                put(request, bad)
                with pytest.raises(InvalidField) as caught:
                    await call(alice, method, request)
                assert caught.value.metadata["field"] == path
                assert len(str(caught.value)) < 1_000
                tried += 1
        assert tried or method.name == "ListSessions"
        raise InvalidField("all", "were refused")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_what_does_not_exist_is_named(method: Method, alice: Pagekeeper, session: Session) -> None:
    kinds: dict[str, type[PagekeeperError]] = {"page_id": PageNotFound, "checkpoint_id": CheckpointNotFound}
    in_the_answer = {"FaultPages", "HandleToolCalls"}
    for path, may_be_empty, put in id_fields(method.request):
        name = path.replace("[0]", "").rpartition(".")[2].replace("page_ids", "page_id").removeprefix("target_")
        if name not in kinds or may_be_empty or method.name in in_the_answer:
            continue
        checkpoint = await session.checkpoint("here")
        request = filled(method.request, session.session_id, "hello", checkpoint.checkpoint_id)
        put(request, "unknown")
        async with refused(session, kinds[name], **{name: "unknown"}):
            await call(alice, method, request)


async def test_an_unknown_page_among_several_is_told_in_its_place(session: Session, alice: Pagekeeper) -> None:
    request = pb.FaultPagesRequest(session_id=session.session_id, page_ids=["unknown", "hello"])
    items = (await alice.api.fault_pages(alice.caller(), request)).items
    assert [item.failure for item in items] == [error_reason_pb2.ERROR_REASON_PAGE_NOT_FOUND, 0]
    assert items[1].fault.content.text == "hello"


Append = pb.AppendPagesRequest
Page = page_pb2.PageInput


@pytest.mark.parametrize(
    ("page", "field"),
    [
        (Page(role=page_pb2.MESSAGE_ROLE_USER), "pages[1].text"),
        (Page(text="x", role=cast("page_pb2.MessageRole.ValueType", 99)), "pages[1].role"),
        (Page(text="x", modality=cast("page_pb2.Modality.ValueType", 17)), "pages[1].modality"),
        (Page(text="x", page_type=cast("page_pb2.PageType.ValueType", -1)), "pages[1].page_type"),
        (Page(text="x", trust=cast("page_pb2.TrustClass.ValueType", 2**31 - 1)), "pages[1].trust"),
        (Page(text="x", trust=page_pb2.TRUST_CLASS_SYSTEM), "pages[1].trust"),
        (Page(text="x", importance=1.5), "pages[1].importance"),
        (Page(text="x", importance=-0.1), "pages[1].importance"),
        (Page(text="x", importance=float("nan")), "pages[1].importance"),
        (Page(text="x", importance=float("inf")), "pages[1].importance"),
        (Page(data=b"x"), "pages[1].data"),
        (Page(text="x", modality=page_pb2.MODALITY_IMAGE), "pages[1].text"),
        (Page(modality=page_pb2.MODALITY_IMAGE), "pages[1].data"),
        (Page(text="{", modality=page_pb2.MODALITY_STRUCTURED), "pages[1].text"),
        (Page(text="[" * 100_000, modality=page_pb2.MODALITY_STRUCTURED), "pages[1].text"),
        (Page(text="x", new_version=True), "pages[1].page_id"),
        (Page(text="x", links=[page_pb2.PageLink(target_page_id="hello")]), "pages[1].links[0].kind"),
        (Page(text="x", metadata={"": "x"}), "pages[1].metadata"),
        (Page(text="x", metadata={str(i): "x" for i in range(33)}), "pages[1].metadata"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_one_bad_page_refuses_all_of_them(page: page_pb2.PageInput, field: str, session: Session) -> None:
    async with refused(session, InvalidField, field=field):
        await session.append(user("good"), page)


async def test_no_pages_and_too_many_are_refused(session: Session) -> None:
    async with refused(session, InvalidField, field="pages"):
        await session.append()
    async with refused(session, InvalidField, field="pages"):
        await session.append(*[user("x")] * 257)


@pytest.mark.parametrize(
    ("pages", "field", "limit_bytes"),
    [
        ([Page(text="x" * (4 * 2**20 + 1))], "pages[0].text", 4 * 2**20),
        ([Page(text="x" * 3 * 2**20), Page(text="x" * 2 * 2**20)], "pages", 4 * 2**20),
        ([Page(text="x", mime_type="x" * 1_025)], "pages[0].mime_type", 1_024),
        ([Page(text="x", metadata={"key": "x" * 1_025})], "pages[0].metadata['key']", 1_024),
    ],
    ids=["page", "pages", "mime_type", "metadata"],
)
async def test_content_over_a_limit_says_which(
    pages: list[page_pb2.PageInput], field: str, limit_bytes: int, session: Session
) -> None:
    async with refused(session, ContentTooLarge, field=field, limit_bytes=str(limit_bytes)):
        await session.append(*pages)


async def test_a_message_that_no_server_takes_is_told_from_a_busy_one(session: Session) -> None:
    async with refused(session, ContentTooLarge):
        await session.append(*[user("x" * 2**20)] * 40)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"max_l0_tokens": 511}, "config.max_l0_tokens"),
        ({"max_l0_tokens": 2**32 - 1}, "config.max_l0_tokens"),
        ({"reserved_tokens": 100_000}, "config.reserved_tokens"),
        ({"eviction_threshold": 1.01}, "config.eviction_threshold"),
        ({"eviction_threshold": -0.5}, "config.eviction_threshold"),
        ({"eviction_threshold": float("nan")}, "config.eviction_threshold"),
        ({"target_utilization": 0.9}, "config.target_utilization"),
        ({"max_faults_per_turn": 101}, "config.max_faults_per_turn"),
        ({"max_fault_tokens_per_turn": 2**31}, "config.max_fault_tokens_per_turn"),
        ({"pin_last_turns": 5_000}, "config.pin_last_turns"),
        ({"eviction_policy": "random/1"}, "config.eviction_policy"),
        ({"eviction_policy": "importance-lru/99"}, "config.eviction_policy"),
        ({"mode": 42}, "config.mode"),
        ({"layout": 42}, "config.layout"),
        ({"model": "x" * 129}, "config.model"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_settings_out_of_range_open_and_change_nothing(
    config: dict[str, Any], field: str, alice: Pagekeeper, session: Session
) -> None:
    with pytest.raises((InvalidField, ContentTooLarge)) as caught:
        await alice.open_session("never", **config)
    assert caught.value.metadata["field"] == field
    with pytest.raises(SessionNotFound):
        await alice.session("never").get()
    async with refused(session, type(caught.value), field=field):
        request = pb.ConfigureSessionRequest(session_id=session.session_id, config=session_pb2.SessionConfig(**config))
        await alice.api.configure_session(alice.caller(), request)


async def test_a_budget_is_never_negative_nor_absurd(session: Session) -> None:
    with pytest.raises(ValueError, match="-1"):
        await session.assemble(budget_tokens=-1)
    with pytest.raises(ValueError, match="-1"):
        session_pb2.SessionConfig(max_l0_tokens=-1)
    async with refused(session, InvalidField, field="budget_tokens"):
        await session.assemble(budget_tokens=2**32 - 1)
    async with refused(session, InvalidField, field="reserve_tokens"):
        await session.assemble(budget_tokens=4_000, reserve_tokens=4_000)
    async with refused(session, BudgetTooSmall, budget_tokens="8000"):
        await session.assemble(reserve_tokens=9_000)


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4", "no-such-model"])
async def test_a_budget_that_is_too_small_says_what_suffices(model: str, session: Session) -> None:
    rules = Page(text="Answer in one sentence. " * 5, page_id="rules", role=page_pb2.MESSAGE_ROLE_SYSTEM, pinned=True)
    await session.append(rules, user("What is the plan? " * 20))
    tools = ['{"type":"function","function":{"name":"weather","description":"It rains.","parameters":{}}}']

    async def ask(budget_tokens: int) -> pb.AssemblePromptResponse:
        return await session.assemble(
            model=model,
            budget_tokens=budget_tokens,
            reserve_tokens=min(50, budget_tokens - 1),
            system_prompt="Be kind.",
            extra_tools_json=tools,
        )

    needed = 0
    for budget_tokens in (1, 51, 500):
        with pytest.raises(BudgetTooSmall) as caught:
            await ask(budget_tokens)
        assert caught.value.metadata["field"] == "budget_tokens"
        assert caught.value.metadata["budget_tokens"] == str(budget_tokens)
        needed = int(caught.value.metadata["needed_tokens"])
        assert needed > budget_tokens
    prompt = await ask(needed)
    assert prompt.tokens.total + 50 <= prompt.tokens.budget == needed
    assert "rules" in {page.page_id for page in prompt.pages}
    with pytest.raises(BudgetTooSmall):
        await ask(needed - 1)


async def test_a_page_in_use_is_not_appended_again(session: Session) -> None:
    async with refused(session, PageExists, page_id="hello"):
        await session.append(user("other"), user("hello again", page_id="hello"))
    async with refused(session, PageExists, page_id="twice"):
        await session.append(user("one", page_id="twice"), user("two", page_id="twice"))
    async with refused(session, PageNotFound, page_id="nothing"):
        await session.append(claim("made of nothing", derived_from=["nothing"]))
    async with refused(session, InvalidField, field="pages.new_version"):
        await session.append(Page(page_id="hello", role=page_pb2.MESSAGE_ROLE_TOOL, text="x", new_version=True))


async def test_a_session_in_use_is_not_opened_again(alice: Pagekeeper, session: Session) -> None:
    async with refused(session, SessionExists, session_id=session.session_id):
        await alice.open_session(session.session_id)


async def test_a_request_id_belongs_to_one_request(session: Session) -> None:
    first = await session.append(assistant("once"), request_id="again")
    async with refused(session, RequestIdReused, request_id="again"):
        await session.append(assistant("something else"), request_id="again")
    async with refused(session, RequestIdReused, request_id="again"):
        await session.append(assistant("once"), assistant("twice"), request_id="again")
    await session.append(assistant("later"))
    revision = session.revision
    assert await session.append(assistant("once"), request_id="again") == first
    assert (await session.get()).revision == revision


async def test_every_mutation_that_is_repeated_is_answered_alike(alice: Pagekeeper, session: Session) -> None:
    """With newer states seen in between, as any client that retries has."""
    await session.append(Page(page_id="away", text="away"))
    checkpoint = await session.checkpoint("here")
    names = {"OpenSession", "ConfigureSession", "BeginTurn", "PinPages", "UnpinPages", "SetImportance", "LinkPages"}
    names |= {"AnnotatePage", "AppendPages", "FaultPage", "HandleToolCalls", "CreateCheckpoint", "ForkSession"}
    names |= {"ReportUsage"}
    for method in METHODS:
        if method.name in names:
            request: Any = filled(method.request, session.session_id, "away", checkpoint.checkpoint_id)
            request.request_id = f"repeat-{method.name}"
            if method.name == "OpenSession":
                request.session_id = ""
            first = await call(alice, method, request)
            await session.append(assistant(f"after {method.name}"))
            revision = (await session.get()).revision
            again = await call(alice, method, request)
            assert (await session.get()).revision == revision, method.name
            assert getattr(again, "revision", 0) in (getattr(first, "revision", 0), revision), method.name


async def test_a_stale_writer_is_told_where_the_session_is(session: Session) -> None:
    stale = session.revision
    await session.append(assistant("meanwhile"))
    async with refused(session, RevisionConflict, expected=str(stale), actual=str(session.revision)):
        await session.append(assistant("too late"), expected_revision=stale)
    async with refused(session, RevisionConflict, expected=str(stale), actual=str(session.revision)):
        await session.append(assistant("too large and too late" * 10_000), expected_revision=stale)
    await session.append(assistant("in time"), expected_revision=session.revision)


async def test_pins_leave_room_for_a_turn(session: Session) -> None:
    # An index is not compressed in the background, so nobody else writes.
    for name in ("one", "two"):
        await session.append(Page(page_id=name, text="words and words " * 600, page_type=page_pb2.PAGE_TYPE_INDEX))
    async with refused(session, PinBudgetExceeded, limit_tokens="2000"):
        await session.append(Page(text="rules and rules " * 2_000, pinned=True))
    await session.pin("two")
    async with refused(session, PinBudgetExceeded, limit_tokens="2000"):
        await session.append(Page(text="rules and rules " * 600, pinned=True))


async def test_a_closed_session_is_read_and_not_written(alice: Pagekeeper, session: Session) -> None:
    checkpoint = await session.checkpoint("here")
    await session.close()
    await session.close()
    reads = {"GetSession", "AssemblePrompt", "SearchPages", "GetPage", "ListPages", "ReadPage", "GetStats"}
    reads |= {"ListCheckpoints", "GetCheckpoint", "GetContextAt", "DiffContext", "GetPageHistory", "ReplaySession"}
    writes = {"ConfigureSession", "AppendPages", "BeginTurn", "SetImportance", "LinkPages", "AnnotatePage"}
    writes |= {"PinPages", "UnpinPages", "DropPages", "CreateCheckpoint", "RestoreCheckpoint", "DeleteCheckpoint"}
    writes |= {"ReportUsage"}
    for method in METHODS:
        request = filled(method.request, session.session_id, "hello", checkpoint.checkpoint_id)
        if method.name in reads:
            await call(alice, method, request)
        elif method.name in writes:
            async with refused(session, SessionClosed, session_id=session.session_id):
                await call(alice, method, request)


async def test_a_deleted_session_is_gone_and_its_id_taken(alice: Pagekeeper, session: Session) -> None:
    await session.delete()
    for method in METHODS:
        if method.name not in {"OpenSession", "ListSessions"}:
            request = filled(method.request, session.session_id, "hello", "here")
            with pytest.raises(SessionNotFound) as caught:
                await call(alice, method, request)
            assert caught.value.metadata == {"session_id": session.session_id}
    assert session.session_id not in [one.session_id async for one in alice.list_sessions()]
    with pytest.raises(SessionExists):
        await alice.open_session(session.session_id)


async def test_on_the_wire_a_refusal_has_the_standard_details(stack: LocalStack, session: Session) -> None:
    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        stub: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)

        async def refusal(request: pb.AppendPagesRequest) -> tuple[grpc.StatusCode, dict[str, Any]]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.AppendPages(request, metadata=(("authorization", f"Bearer {stack.token('alice')}"),))
            status = rpc_status.from_call(cast(grpc.Call, caught.value))
            assert status is not None
            assert status.message == caught.value.details()
            details = {}
            for detail in status.details:
                for kind in (ErrorInfo, BadRequest):
                    if detail.Is(kind.DESCRIPTOR):
                        details[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
            return caught.value.code(), details

        code, details = await refusal(Append(session_id="a*b", pages=[user("x")]))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details["ErrorInfo"] == ErrorInfo(
            reason="INVALID_FIELD", domain="pagekeeper", metadata={"field": "session_id"}
        )
        (violation,) = details["BadRequest"].field_violations
        assert (violation.field, violation.reason) == ("session_id", "INVALID_FIELD")
        assert "'a*b'" in violation.description

        code, details = await refusal(Append(session_id=session.session_id, pages=[user("x")]))
        assert code is grpc.StatusCode.NOT_FOUND  # it is another tenant's
        assert details == {
            "ErrorInfo": ErrorInfo(
                reason="SESSION_NOT_FOUND", domain="pagekeeper", metadata={"session_id": session.session_id}
            )
        }
