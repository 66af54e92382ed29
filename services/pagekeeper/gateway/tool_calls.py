"""A model's tool calls, done one after the other in the model's order.

An error of the model becomes a message for the model. A deleted session or an unavailable store fails the whole call,
so that the caller retries and tells the model nothing untrue.

Invariant: nothing is brought in whose answer could not be had. An answer has at most ANSWER_BYTES_MAX, a page is sized
before its fault, and a call for which the answer has no room is told so and not carried out.
"""

from typing import Final, cast

from pagekeeper.core.errors import (
    ContentCorrupt,
    ContentTooLarge,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
    PagekeeperError,
    PageNotFound,
)
from pagekeeper.core.events import SessionConfig
from pagekeeper.core.pages import MediaDescription
from pagekeeper.core.pieces import is_read_in_pieces, piece_at, piece_tokens_max, readable_text, render_piece
from pagekeeper.core.previews import parted
from pagekeeper.core.tools import (
    FaultedPage,
    FaultEffects,
    FoundPage,
    PageFaultCall,
    SearchPagesCall,
    ToolCallProblem,
    meta_of,
    parse_tool_call,
    render_problem,
    render_search_result,
    render_tool_result,
)
from pagekeeper.gateway.contents import Contents, Wanted, is_text
from pagekeeper.gateway.counting import remembering
from pagekeeper.gateway.ports import FaultHandlerPort, PageTablePort
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.requests import derived_id
from pagekeeper.runtime.tokens import EncodingName, for_model
from pagekeeper.runtime.views import MODALITY, MODALITY_OF, TIER_OF, representation_of
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

THE_MODELS_FAULT: Final = (
    PageNotFound,
    LevelUnavailable,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    ContentTooLarge,
    ContentCorrupt,
)
"""Refusals that the model can do something about, if only by asking for another page."""
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
BESIDE_A_PAGE_BYTES: Final = 256 * 1024
"""What a message may say beside a page's content: its facts, and what making room for it did. Also the largest message
without a page."""
WRITTEN_BYTES_MAX: Final = 6
"""Bytes of JSON for a byte of text: U+0000 is written as `\\u0000`."""

_MEDIA: Final = codec_of(MediaDescription)
_CONFIG: Final = codec_of(SessionConfig)


class ToolCalls:
    def __init__(self, page_table: PageTablePort, faults: FaultHandlerPort, contents: Contents, pool: Pool) -> None:
        self._page_table = page_table
        self._faults = faults
        self._contents = contents
        self._pool = pool

    async def handle(self, caller: Caller, request: pb.HandleToolCallsRequest) -> pb.HandleToolCallsResponse:
        """Answer every call. A call's own request id derives from the request's, so a retry is answered alike."""
        response = pb.HandleToolCallsResponse(revision=request.min_revision)
        room_bytes = ANSWER_BYTES_MAX
        for index, call in enumerate(request.calls):
            if room_bytes < BESIDE_A_PAGE_BYTES:
                full = ToolCallProblem("answer_full", "The answer has no room for more. Call again for this.")
                message = _problem(call, full, ContentTooLarge)
            else:
                request_id = derived_id("call", request.request_id, index)
                message = await self._answer(caller, request, call, request_id, response, room_bytes)
            room_bytes -= message.ByteSize()
            response.messages.append(message)
        return response

    async def _answer(
        self,
        caller: Caller,
        request: pb.HandleToolCallsRequest,
        call: pb.ToolCall,
        request_id: str,
        response: pb.HandleToolCallsResponse,
        room_bytes: int,
    ) -> pb.ToolMessage:
        parsed = parse_tool_call(call.name, call.arguments_json)
        match parsed:
            case ToolCallProblem():
                return _problem(call, parsed, InvalidField)
            case SearchPagesCall():
                return await self._search(caller, request, call, parsed, response)
            case PageFaultCall():
                content_bytes_max = max(1, (room_bytes - BESIDE_A_PAGE_BYTES) // WRITTEN_BYTES_MAX)
                fault = pb.FaultPageRequest(
                    request_id=request_id,
                    session_id=request.session_id,
                    page_id=parsed.page_id,
                    target_level=parsed.target_level,
                    reason=page_pb2.FAULT_REASON_RESOLVE_REFERENCE,
                    min_revision=response.revision,
                    content_bytes_max=content_bytes_max,
                )
                try:
                    return await self._brought_in_or_read(caller, call, parsed, fault, response)
                except THE_MODELS_FAULT as refused:
                    refusal = cast(PagekeeperError, refused)
                    return _problem(call, ToolCallProblem.from_refusal(refusal, parsed.page_id), type(refusal))

    async def _brought_in_or_read(
        self,
        caller: Caller,
        call: pb.ToolCall,
        parsed: PageFaultCall,
        fault: pb.FaultPageRequest,
        response: pb.HandleToolCallsResponse,
    ) -> pb.ToolMessage:
        """A page that is too large to be brought in is read in pieces, of which this is the first."""
        if parsed.offset is not None:
            return await self._piece(caller, call, fault, parsed.offset)
        try:
            faulted = await self._faults.fault(caller, fault)
        except (LevelUnavailable, FaultTokensExceeded, ContentTooLarge) as refused:
            return await self._piece(caller, call, fault, 0, refused)
        response.revision = max(response.revision, faulted.revision)
        evictions = [h.evicted.page_id for h in faulted.outcome.happenings if h.WhichOneof("kind") == "evicted"]
        effects = FaultEffects(faulted.outcome.promoted, faulted.outcome.size_tokens, tuple(evictions))
        page, content = faulted.page, faulted.content
        shown = _faulted_page(page, content.level, content.text, faulted.outcome.source_tier)
        return pb.ToolMessage(tool_call_id=call.id, content=render_tool_result(shown, effects), fault=faulted.outcome)

    async def _piece(
        self,
        caller: Caller,
        call: pb.ToolCall,
        fault: pb.FaultPageRequest,
        offset: int,
        refused: PagekeeperError | None = None,
    ) -> pb.ToolMessage:
        """Raises `refused`, why the page was not brought in, when it may be brought in another time."""
        session_id, min_revision = fault.session_id, fault.min_revision
        lookup = table_pb.LookupRequest(session_id=session_id, page_ids=[fault.page_id], min_revision=min_revision)
        entry = (await self._page_table.lookup(caller, lookup)).entries[0]
        page = entry.page
        levels = [representation.level for representation in page.representations]
        level = min((one for one in levels if one >= fault.target_level), default=max(levels))
        asked = pb.GetSessionRequest(session_id=session_id, min_revision=min_revision)
        session = (await self._page_table.get_session(caller, asked)).session
        config = _CONFIG.decode(session.config)
        if refused is not None and not is_read_in_pieces(refused, representation_of(page, level).size_tokens, config):
            raise refused
        inline = next((one.data for one in entry.inline if one.level == level), None)
        content = await self._contents.load(caller, fault.session_id, Wanted(page, level, inline))
        data, _ = parted(content.data, representation_of(page, level).preview_mime_type)
        shown = _faulted_page(page, level, data.decode() if is_text(page, level) else "", page.tier)
        piece = (shown, offset, piece_tokens_max(config), EncodingName(for_model(config.model).tokenizer.name))
        if len(content.data) > HERE_BYTES_MAX:
            text, next_offset = await self._pool.run(caller.tenant, written_piece, *piece)
        else:
            text, next_offset = written_piece(*piece)
        return pb.ToolMessage(tool_call_id=call.id, content=text, next_offset=next_offset)

    async def _search(
        self,
        caller: Caller,
        request: pb.HandleToolCallsRequest,
        call: pb.ToolCall,
        parsed: SearchPagesCall,
        response: pb.HandleToolCallsResponse,
    ) -> pb.ToolMessage:
        search = pb.SearchPagesRequest(
            session_id=request.session_id,
            query=parsed.query,
            limit=parsed.limit,
            min_revision=response.revision,
        )
        if parsed.modality is not None:
            search.modality = MODALITY[parsed.modality]
        found = await self._page_table.search_pages(caller, search)
        results = [
            FoundPage(
                page_id=hit.page_id,
                modality=MODALITY_OF[hit.modality],
                tier=TIER_OF[hit.tier],
                levels=tuple(hit.levels),
                hint=hit.snippet or hit.hint,
                relevance=hit.relevance,
            )
            for hit in found.hits
        ]
        return pb.ToolMessage(tool_call_id=call.id, content=render_search_result(results, found.searched_pages))


def written_piece(page: FaultedPage, offset: int, tokens_max: int, encoding: EncodingName) -> tuple[str, int]:
    """The envelope with the piece of a page that begins at `offset`, and where the next one begins; 0 for none.

    Raises InvalidField.
    """
    piece = piece_at(readable_text(page), offset, tokens_max, remembering(encoding).count)
    return render_piece(page, piece), piece.next_offset


def _faulted_page(
    page: page_pb2.Page, level: int, text: str, source_tier: "page_pb2.StorageTier.ValueType"
) -> FaultedPage:
    return FaultedPage(
        page_id=page.page_id,
        modality=MODALITY_OF[page.modality],
        level=level,
        tier=TIER_OF[source_tier],
        text=text,
        media=None if is_text(page, level) else _MEDIA.decode(page.media),
        meta=meta_of(
            TIER_OF[source_tier],
            turn=page.turn,
            mime_type=page.mime_type,
            speaker=page.speaker or page.tool_name,
            tool_call_id=page.tool_call_id,
            said_unix_ms=page.said_unix_ms,
        ),
    )


def _problem(call: pb.ToolCall, problem: ToolCallProblem, kind: type[PagekeeperError]) -> pb.ToolMessage:
    return pb.ToolMessage(tool_call_id=call.id, content=render_problem(problem), failure=reason_number(kind))
