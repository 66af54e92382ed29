"""MemoryService: what a caller may ask, each request checked and handed to the service that owns the answer.

Read-your-writes: this replica remembers the newest revision of a session that it has answered, and asks for a state at
least that new, whether or not the caller does.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.lru import Lru
from pagekeeper.core.previews import parted
from pagekeeper.gateway.assembly import PromptAssembler
from pagekeeper.gateway.contents import Contents, Wanted, is_text
from pagekeeper.gateway.ports import FaultHandlerPort, PageTablePort, WorkingSetPort
from pagekeeper.gateway.tool_calls import ToolCalls
from pagekeeper.gateway.validation import check
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.views import representation_of
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

SESSIONS_REMEMBERED_MAX: Final = 100_000

R = TypeVar("R", bound=Message)


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


class GatewayService:
    def __init__(
        self,
        page_table: PageTablePort,
        working_set: WorkingSetPort,
        faults: FaultHandlerPort,
        contents: Contents,
        new_request_id: Callable[[], str],
    ) -> None:
        self._page_table = page_table
        self._working_set = working_set
        self._faults = faults
        self._contents = contents
        self._new_request_id = new_request_id
        self._assembler = PromptAssembler(page_table, working_set, contents)
        self._tool_calls = ToolCalls(page_table, faults)
        self._seen = SeenRevisions()

    def _prepare(self, caller: Caller, request: R) -> R:
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

    def _answered(self, caller: Caller, session_id: str, revision: int, response: R) -> R:
        self._seen.note(caller, session_id, revision)
        return response

    # Sessions

    async def open_session(self, caller: Caller, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
        response = await self._page_table.open_session(caller, self._prepare(caller, request))
        return self._answered(caller, response.session.session_id, response.session.revision, response)

    async def get_session(self, caller: Caller, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        return await self._page_table.get_session(caller, self._prepare(caller, request))

    async def list_sessions(self, caller: Caller, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        return await self._page_table.list_sessions(caller, self._prepare(caller, request))

    async def configure_session(
        self, caller: Caller, request: pb.ConfigureSessionRequest
    ) -> pb.ConfigureSessionResponse:
        response = await self._page_table.configure_session(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.session.revision, response)

    async def close_session(self, caller: Caller, request: pb.CloseSessionRequest) -> pb.CloseSessionResponse:
        response = await self._page_table.close_session(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.session.revision, response)

    async def delete_session(self, caller: Caller, request: pb.DeleteSessionRequest) -> pb.DeleteSessionResponse:
        response = await self._page_table.delete_session(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    # Appending, assembling, tool calls

    async def append_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
        response = await self._page_table.map_pages(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def begin_turn(self, caller: Caller, request: pb.BeginTurnRequest) -> pb.BeginTurnResponse:
        response = await self._working_set.begin_turn(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def assemble_prompt(self, caller: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
        return await self._assembler.assemble(caller, self._prepare(caller, request))

    async def report_usage(self, caller: Caller, request: pb.ReportUsageRequest) -> pb.ReportUsageResponse:
        response = await self._working_set.report_usage(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def handle_tool_calls(self, caller: Caller, request: pb.HandleToolCallsRequest) -> pb.HandleToolCallsResponse:
        response = await self._tool_calls.handle(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    # Pages

    async def fault_page(self, caller: Caller, request: pb.FaultPageRequest) -> pb.FaultPageResponse:
        response = await self._faults.fault(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def fault_pages(self, caller: Caller, request: pb.FaultPagesRequest) -> pb.FaultPagesResponse:
        response = await self._faults.fault_many(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def stream_fault(
        self, caller: Caller, request: pb.StreamFaultRequest
    ) -> AsyncIterator[pb.StreamFaultResponse]:
        check(request)
        self._prepare(caller, request.fault)
        async for part in self._faults.stream_fault(caller, request):
            if part.HasField("page"):
                self._seen.note(caller, request.fault.session_id, part.page.revision)
            yield part

    async def search_pages(self, caller: Caller, request: pb.SearchPagesRequest) -> pb.SearchPagesResponse:
        return await self._page_table.search_pages(caller, self._prepare(caller, request))

    async def get_page(self, caller: Caller, request: pb.GetPageRequest) -> pb.GetPageResponse:
        return await self._page_table.get_page(caller, self._prepare(caller, request))

    async def list_pages(self, caller: Caller, request: pb.ListPagesRequest) -> pb.ListPagesResponse:
        return await self._page_table.list_pages(caller, self._prepare(caller, request))

    async def read_page(self, caller: Caller, request: pb.ReadPageRequest) -> pb.ReadPageResponse:
        self._prepare(caller, request)
        lookup = table_pb.LookupRequest(
            session_id=request.session_id,
            page_ids=[request.page_id],
            version=request.version,
            min_revision=request.min_revision,
            strict=request.strict,
        )
        entry = (await self._page_table.lookup(caller, lookup)).entries[0]
        page, level = entry.page, request.level
        representation = representation_of(page, level)
        inline = next((one.data for one in entry.inline if one.level == level), None)
        (content,) = await self._contents.load(caller, request.session_id, [Wanted(page, level, inline)])
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

    async def pin_pages(self, caller: Caller, request: pb.PinPagesRequest) -> pb.PinPagesResponse:
        response = await self._working_set.pin(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def unpin_pages(self, caller: Caller, request: pb.UnpinPagesRequest) -> pb.UnpinPagesResponse:
        response = await self._working_set.unpin(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def set_importance(self, caller: Caller, request: pb.SetImportanceRequest) -> pb.SetImportanceResponse:
        response = await self._working_set.set_importance(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def link_pages(self, caller: Caller, request: pb.LinkPagesRequest) -> pb.LinkPagesResponse:
        response = await self._page_table.link_pages(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def annotate_page(self, caller: Caller, request: pb.AnnotatePageRequest) -> pb.AnnotatePageResponse:
        response = await self._page_table.annotate_page(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def drop_pages(self, caller: Caller, request: pb.DropPagesRequest) -> pb.DropPagesResponse:
        response = await self._page_table.unmap_pages(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def compress_pages(self, caller: Caller, request: pb.CompressPagesRequest) -> pb.CompressPagesResponse:
        response = await self._faults.compress(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def flush_session(self, caller: Caller, request: pb.FlushSessionRequest) -> pb.FlushSessionResponse:
        response = await self._page_table.flush_session(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def get_stats(self, caller: Caller, request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        return await self._working_set.get_stats(caller, self._prepare(caller, request))

    # The past

    async def create_checkpoint(
        self, caller: Caller, request: pb.CreateCheckpointRequest
    ) -> pb.CreateCheckpointResponse:
        response = await self._page_table.create_checkpoint(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def list_checkpoints(self, caller: Caller, request: pb.ListCheckpointsRequest) -> pb.ListCheckpointsResponse:
        return await self._page_table.list_checkpoints(caller, self._prepare(caller, request))

    async def get_checkpoint(self, caller: Caller, request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        return await self._page_table.get_checkpoint(caller, self._prepare(caller, request))

    async def restore_checkpoint(
        self, caller: Caller, request: pb.RestoreCheckpointRequest
    ) -> pb.RestoreCheckpointResponse:
        response = await self._working_set.restore(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def delete_checkpoint(
        self, caller: Caller, request: pb.DeleteCheckpointRequest
    ) -> pb.DeleteCheckpointResponse:
        response = await self._page_table.delete_checkpoint(caller, self._prepare(caller, request))
        return self._answered(caller, request.session_id, response.revision, response)

    async def fork_session(self, caller: Caller, request: pb.ForkSessionRequest) -> pb.ForkSessionResponse:
        response = await self._page_table.fork_session(caller, self._prepare(caller, request))
        return self._answered(caller, response.session.session_id, response.session.revision, response)

    async def get_context_at(self, caller: Caller, request: pb.GetContextAtRequest) -> pb.GetContextAtResponse:
        return await self._working_set.context_at(caller, self._prepare(caller, request))

    async def diff_context(self, caller: Caller, request: pb.DiffContextRequest) -> pb.DiffContextResponse:
        return await self._working_set.diff_context(caller, self._prepare(caller, request))

    async def get_page_history(self, caller: Caller, request: pb.GetPageHistoryRequest) -> pb.GetPageHistoryResponse:
        return await self._page_table.get_page_history(caller, self._prepare(caller, request))

    async def replay_session(self, caller: Caller, request: pb.ReplaySessionRequest) -> pb.ReplaySessionResponse:
        return await self._working_set.replay_session(caller, self._prepare(caller, request))


def _put_part(content: page_pb2.PageContent, part: bytes, *, text: bool) -> None:
    """As text where it is whole text; a range that splits a character is bytes."""
    if text:
        try:
            content.text = part.decode()
            return
        except UnicodeDecodeError:
            pass
    content.data = part
