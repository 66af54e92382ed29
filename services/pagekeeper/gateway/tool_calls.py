"""A model's tool calls, done one after the other in the model's order.

An error of the model becomes a message for the model. A deleted session or an unavailable store fails the whole call,
so that the caller retries and tells the model nothing untrue.
"""

from typing import Final, cast

from pagekeeper.core.errors import (
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
    PagekeeperError,
    PageNotFound,
)
from pagekeeper.core.pages import MediaDescription
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
from pagekeeper.gateway.contents import is_text
from pagekeeper.gateway.ports import FaultHandlerPort, PageTablePort
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id
from pagekeeper.runtime.views import MODALITY, MODALITY_OF, TIER_OF
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

THE_MODELS_FAULT: Final = (
    PageNotFound,
    LevelUnavailable,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
)
"""Refusals that the model can do something about."""

_MEDIA: Final = codec_of(MediaDescription)


class ToolCalls:
    def __init__(self, page_table: PageTablePort, faults: FaultHandlerPort) -> None:
        self._page_table = page_table
        self._faults = faults

    async def handle(self, caller: Caller, request: pb.HandleToolCallsRequest) -> pb.HandleToolCallsResponse:
        """Answer every call. A call's own request id derives from the request's, so a retry is answered alike."""
        response = pb.HandleToolCallsResponse(revision=request.min_revision)
        for index, call in enumerate(request.calls):
            message = await self._answer(caller, request, call, derived_id("call", request.request_id, index), response)
            response.messages.append(message)
        return response

    async def _answer(
        self,
        caller: Caller,
        request: pb.HandleToolCallsRequest,
        call: pb.ToolCall,
        request_id: str,
        response: pb.HandleToolCallsResponse,
    ) -> pb.ToolMessage:
        parsed = parse_tool_call(call.name, call.arguments_json)
        match parsed:
            case ToolCallProblem():
                return _problem(call, parsed, InvalidField)
            case SearchPagesCall():
                return await self._search(caller, request, call, parsed, response)
            case PageFaultCall():
                return await self._fault(caller, request, call, parsed, request_id, response)

    async def _fault(
        self,
        caller: Caller,
        request: pb.HandleToolCallsRequest,
        call: pb.ToolCall,
        parsed: PageFaultCall,
        request_id: str,
        response: pb.HandleToolCallsResponse,
    ) -> pb.ToolMessage:
        fault_request = pb.FaultPageRequest(
            request_id=request_id,
            session_id=request.session_id,
            page_id=parsed.page_id,
            target_level=parsed.target_level,
            reason=page_pb2.FAULT_REASON_RESOLVE_REFERENCE,
            min_revision=response.revision,
        )
        try:
            faulted = await self._faults.fault(caller, fault_request)
        except THE_MODELS_FAULT as refused:
            refusal = cast(PagekeeperError, refused)
            return _problem(call, ToolCallProblem.from_refusal(refusal, parsed.page_id), type(refusal))
        response.revision = max(response.revision, faulted.revision)
        evictions = [h.evicted.page_id for h in faulted.outcome.happenings if h.WhichOneof("kind") == "evicted"]
        effects = FaultEffects(faulted.outcome.promoted, faulted.outcome.size_tokens, tuple(evictions))
        return pb.ToolMessage(
            tool_call_id=call.id,
            content=render_tool_result(_faulted_page(faulted), effects),
            fault=faulted.outcome,
        )

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


def _faulted_page(faulted: pb.FaultPageResponse) -> FaultedPage:
    page, content = faulted.page, faulted.content
    text = content.text if is_text(page, content.level) else ""
    return FaultedPage(
        page_id=page.page_id,
        modality=MODALITY_OF[page.modality],
        level=content.level,
        tier=TIER_OF[faulted.outcome.source_tier],
        text=text,
        media=None if is_text(page, content.level) else _MEDIA.decode(page.media),
        meta=meta_of(
            TIER_OF[faulted.outcome.source_tier],
            turn=page.turn,
            mime_type=page.mime_type,
            speaker=page.speaker or page.tool_name,
            tool_call_id=page.tool_call_id,
            said_unix_ms=page.said_unix_ms,
        ),
    )


def _problem(call: pb.ToolCall, problem: ToolCallProblem, kind: type[PagekeeperError]) -> pb.ToolMessage:
    return pb.ToolMessage(tool_call_id=call.id, content=render_problem(problem), failure=reason_number(kind))
