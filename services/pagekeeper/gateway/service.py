"""MemoryService: a table of which service answers which RPC, after its request was checked.

Read-your-writes: this replica remembers the newest revision of a session that it has answered to a change, and asks for
a state at least that new, whether or not the caller does.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.lru import Lru
from pagekeeper.core.previews import parted
from pagekeeper.gateway.assembly import PromptAssembler
from pagekeeper.gateway.contents import Contents, Wanted, is_text
from pagekeeper.gateway.ports import FaultHandlerPort, PageTablePort, WorkingSetPort
from pagekeeper.gateway.tool_calls import ToolCalls
from pagekeeper.gateway.validation import check, check_structured
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.views import representation_of
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

SESSIONS_REMEMBERED_MAX: Final = 100_000

R = TypeVar("R", bound=Message)
Request_contra = TypeVar("Request_contra", bound=Message, contravariant=True)
Response_co = TypeVar("Response_co", bound=Message, covariant=True)


class SeenRevisions:
    """The newest revision of each session that this replica has answered."""

    def __init__(self, sessions_max: int = SESSIONS_REMEMBERED_MAX) -> None:
        self._revisions: Lru[tuple[str, str], int] = Lru(count_max=sessions_max)

    def of(self, caller: Caller, session_id: str) -> int:
        return self._revisions.peek((caller.tenant, session_id)) or 0

    def note(self, caller: Caller, session_id: str, revision: int) -> None:
        key = (caller.tenant, session_id)
        if revision > (self._revisions.peek(key) or 0):
            self._revisions.put(key, revision)


class Ask(Protocol[Request_contra, Response_co]):
    """An RPC as a method of an object."""

    async def __call__(self, caller: Caller, request: Request_contra) -> Response_co: ...


class Forwarded(Generic[Request_contra, Response_co]):
    """A method of the gateway that another object answers, once the request was checked and completed."""

    def __init__(
        self, answering: "Callable[[GatewayService], Ask[Request_contra, Response_co]]", *, changes: bool
    ) -> None:
        self._answering = answering
        self._changes = changes

    def __get__(self, gateway: "GatewayService", owner: type) -> Ask[Request_contra, Response_co]:
        ask = self._answering(gateway)

        async def forward(caller: Caller, request: Request_contra) -> Response_co:
            response = await ask(caller, gateway.prepare(caller, request))
            if self._changes:
                gateway.note(caller, request, response)
            return response

        return forward


def read(
    answering: "Callable[[GatewayService], Ask[Request_contra, Response_co]]",
) -> Forwarded[Request_contra, Response_co]:
    """An RPC that changes nothing."""
    return Forwarded(answering, changes=False)


def change(
    answering: "Callable[[GatewayService], Ask[Request_contra, Response_co]]",
) -> Forwarded[Request_contra, Response_co]:
    """An RPC whose answer has the session's new revision, which later reads here are at least as new as."""
    return Forwarded(answering, changes=True)


class GatewayService:
    """Implements `MemoryService` of the API. A replica is stateless but for caches and `SeenRevisions`."""

    def __init__(
        self,
        page_table: PageTablePort,
        working_set: WorkingSetPort,
        faults: FaultHandlerPort,
        contents: Contents,
        new_request_id: Callable[[], str],
        pool: Pool,
    ) -> None:
        self.page_table = page_table
        self.working_set = working_set
        self.faults = faults
        self.contents = contents
        self.assembler = PromptAssembler(page_table, working_set, contents, pool)
        self.tool_calls = ToolCalls(page_table, faults, contents, pool)
        self._new_request_id = new_request_id
        self._pool = pool
        self._seen = SeenRevisions()

    def prepare(self, caller: Caller, request: R) -> R:
        """Check a request, give it an id when it has none, and raise its `min_revision` to what was answered before."""
        check(request)
        fields = request.DESCRIPTOR.fields_by_name
        open_request: Any = request
        if "request_id" in fields and not open_request.request_id:
            open_request.request_id = self._new_request_id()
        if "min_revision" in fields:
            seen = self._seen.of(caller, open_request.session_id)
            open_request.min_revision = max(open_request.min_revision, seen)
        return request

    def note(self, caller: Caller, request: Any, response: Any) -> None:  # noqa: ANN401 - messages of any RPC that changes
        """Remember the revision of a response, of the session that it is about."""
        if "session" in response.DESCRIPTOR.fields_by_name:
            self._seen.note(caller, response.session.session_id, response.session.revision)
        else:
            self._seen.note(caller, request.session_id, response.revision)

    # Sessions
    open_session = change(lambda gateway: gateway.page_table.open_session)
    get_session = read(lambda gateway: gateway.page_table.get_session)
    list_sessions = read(lambda gateway: gateway.page_table.list_sessions)
    configure_session = change(lambda gateway: gateway.page_table.configure_session)
    close_session = change(lambda gateway: gateway.page_table.close_session)
    delete_session = change(lambda gateway: gateway.page_table.delete_session)
    fork_session = change(lambda gateway: gateway.page_table.fork_session)

    # Turns, prompts, tool calls
    append_pages = change(lambda gateway: gateway.map_pages)
    begin_turn = change(lambda gateway: gateway.working_set.begin_turn)
    assemble_prompt = read(lambda gateway: gateway.assembler.assemble)
    report_usage = change(lambda gateway: gateway.working_set.report_usage)
    handle_tool_calls = change(lambda gateway: gateway.tool_calls.handle)

    # Pages
    fault_page = change(lambda gateway: gateway.faults.fault)
    fault_pages = change(lambda gateway: gateway.faults.fault_many)
    search_pages = read(lambda gateway: gateway.page_table.search_pages)
    get_page = read(lambda gateway: gateway.page_table.get_page)
    list_pages = read(lambda gateway: gateway.page_table.list_pages)
    pin_pages = change(lambda gateway: gateway.working_set.pin)
    unpin_pages = change(lambda gateway: gateway.working_set.unpin)
    set_importance = change(lambda gateway: gateway.working_set.set_importance)
    link_pages = change(lambda gateway: gateway.page_table.link_pages)
    annotate_page = change(lambda gateway: gateway.page_table.annotate_page)
    drop_pages = change(lambda gateway: gateway.page_table.unmap_pages)
    compress_pages = change(lambda gateway: gateway.faults.compress)
    flush_session = change(lambda gateway: gateway.page_table.flush_session)
    get_stats = read(lambda gateway: gateway.working_set.get_stats)

    # The past
    create_checkpoint = change(lambda gateway: gateway.page_table.create_checkpoint)
    list_checkpoints = read(lambda gateway: gateway.page_table.list_checkpoints)
    get_checkpoint = read(lambda gateway: gateway.page_table.get_checkpoint)
    restore_checkpoint = change(lambda gateway: gateway.working_set.restore)
    delete_checkpoint = change(lambda gateway: gateway.page_table.delete_checkpoint)
    get_context_at = read(lambda gateway: gateway.working_set.context_at)
    diff_context = read(lambda gateway: gateway.working_set.diff_context)
    get_page_history = read(lambda gateway: gateway.page_table.get_page_history)
    replay_session = read(lambda gateway: gateway.working_set.replay_session)

    # Answered here

    async def map_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
        """Append pages, once their contents were checked, too."""
        await check_structured(self._pool, caller.tenant, request)
        return await self.page_table.map_pages(caller, request)

    async def stream_fault(
        self, caller: Caller, request: pb.StreamFaultRequest
    ) -> AsyncIterator[pb.StreamFaultResponse]:
        check(request)
        self.prepare(caller, request.fault)
        async for part in self.faults.stream_fault(caller, request):
            if part.HasField("page"):
                self.note(caller, request.fault, part.page)
            yield part

    async def read_page(self, caller: Caller, request: pb.ReadPageRequest) -> pb.ReadPageResponse:
        self.prepare(caller, request)
        lookup = table_pb.LookupRequest(
            session_id=request.session_id,
            page_ids=[request.page_id],
            version=request.version,
            min_revision=request.min_revision,
            strict=request.strict,
        )
        entry = (await self.page_table.lookup(caller, lookup)).entries[0]
        page, level = entry.page, request.level
        representation = representation_of(page, level)
        inline = next((one.data for one in entry.inline if one.level == level), None)
        content = await self.contents.load(caller, request.session_id, Wanted(page, level, inline))
        data, preview = parted(content.data, representation.preview_mime_type)
        if request.offset > len(data):
            raise InvalidField("offset", f"must be at most the size of the content, {len(data):,} bytes")
        end = request.offset + request.length if request.length else len(data)
        part = data[request.offset : end]
        answer = page_pb2.PageContent(
            page_id=page.page_id,
            version=page.version,
            level=level,
            source_tier=page.tier,
            size_tokens=representation.size_tokens,
        )
        _put_part(answer, part, text=is_text(page, level))
        if preview is not None and not request.offset:
            answer.preview.CopyFrom(page_pb2.MediaPreview(mime_type=preview.mime_type, data=preview.data))
        return pb.ReadPageResponse(content=answer, total_bytes=len(data), digest=representation.digest)


def _put_part(content: page_pb2.PageContent, part: bytes, *, text: bool) -> None:
    """As text where it is whole text; a range that splits a character is bytes."""
    if text:
        try:
            content.text = part.decode()
            return
        except UnicodeDecodeError:
            pass
    content.data = part
