"""FaultHandlerService: look up, load, admit, in that order, so that what is admitted can be read."""

from collections.abc import AsyncIterator

from pagekeeper.fault_handler.compressing import Compressing
from pagekeeper.fault_handler.entries import Entries
from pagekeeper.fault_handler.loading import Loader, level_for, representation_at
from pagekeeper.fault_handler.ports import WorkingSetPort
from pagekeeper.memory.errors import (
    ContentCorrupt,
    FaultLimitReached,
    FaultTokensExceeded,
    LevelUnavailable,
    PageNotFound,
)
from pagekeeper.memory.ids import SessionKey, session_key
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

OF_ONE_PAGE = (PageNotFound, LevelUnavailable, FaultLimitReached, FaultTokensExceeded, ContentCorrupt)
"""Refusals that say nothing about the other pages of the same call."""


class FaultHandlerService:
    """Implements `FaultHandlerService` of the API. Stateless but for caches."""

    def __init__(self, entries: Entries, loader: Loader, working_set: WorkingSetPort, compressing: Compressing) -> None:
        self._entries = entries
        self._loader = loader
        self._working_set = working_set
        self.compress = compressing.compress
        self.work_compress = compressing.work

    async def fault(self, caller: Caller, request: pb.FaultPageRequest) -> pb.FaultPageResponse:
        key = session_key(caller.tenant, request.session_id)
        entry = await self._entries.entry(caller, key, request.page_id, request.min_revision)
        return await self._bring_in(caller, key, request, entry)

    async def fault_many(self, caller: Caller, request: pb.FaultPagesRequest) -> pb.FaultPagesResponse:
        response = pb.FaultPagesResponse(revision=request.min_revision)
        for index, page_id in enumerate(request.page_ids):
            one = pb.FaultPageRequest(
                request_id=derived_id("fault", request.request_id, index),
                session_id=request.session_id,
                page_id=page_id,
                target_level=request.target_level,
                reason=request.reason,
                min_revision=response.revision,
            )
            try:
                faulted = await self.fault(caller, one)
            except OF_ONE_PAGE as refusal:
                item = pb.FaultItem(page_id=page_id, error_reason=refusal.reason, error_message=refusal.message)
            else:
                item = pb.FaultItem(page_id=page_id, fault=faulted)
                response.revision = max(response.revision, faulted.revision)
            response.items.append(item)
        return response

    async def stream_fault(
        self, caller: Caller, request: pb.StreamFaultRequest
    ) -> AsyncIterator[pb.StreamFaultResponse]:
        fault = request.fault
        key = session_key(caller.tenant, fault.session_id)
        entry = await self._entries.entry(caller, key, fault.page_id, fault.min_revision)
        yield pb.StreamFaultResponse(placeholder=entry.page)
        yield pb.StreamFaultResponse(page=await self._bring_in(caller, key, fault, entry))

    async def _bring_in(
        self, caller: Caller, key: SessionKey, request: pb.FaultPageRequest, entry: table_pb.PageEntry
    ) -> pb.FaultPageResponse:
        level = level_for(entry.page, request.target_level)
        entry, data = await self._load(caller, key, entry, level)
        admitted = await self._working_set.admit(
            caller,
            working_pb.AdmitRequest(
                request_id=request.request_id,
                session_id=request.session_id,
                page_id=request.page_id,
                target_level=request.target_level,
                reason=request.reason,
                min_revision=request.min_revision,
            ),
        )
        self._entries.advance(key, admitted.previous_revision, admitted.revision)
        outcome = admitted.outcome
        if (outcome.version, outcome.level) != (entry.page.version, level):
            # It was resident at a higher fidelity already, or changed since its entry was read.
            level = outcome.level
            (entry,) = await self._entries.look_up(caller, key, [request.page_id], admitted.revision)
            data = await self._loader.load(caller, key, entry, level)
        return _response(admitted, entry.page, level, data)

    async def _load(
        self, caller: Caller, key: SessionKey, entry: table_pb.PageEntry, level: int
    ) -> tuple[table_pb.PageEntry, bytes]:
        """The bytes, and the entry that led to them: a fresh one when the bytes are not where the first one says."""
        try:
            return entry, await self._loader.load(caller, key, entry, level)
        except ContentCorrupt:
            (fresh,) = await self._entries.look_up(caller, key, [entry.page.page_id], 0)
            if fresh == entry:
                raise
            return fresh, await self._loader.load(caller, key, fresh, level)


def _response(admitted: working_pb.AdmitResponse, page: page_pb2.Page, level: int, data: bytes) -> pb.FaultPageResponse:
    outcome = admitted.outcome
    response = pb.FaultPageResponse(revision=admitted.revision, page=page, outcome=outcome)
    response.page.tier = page_pb2.STORAGE_TIER_L0
    response.page.resident_level = level
    content = response.content
    content.page_id, content.version, content.level = page.page_id, page.version, level
    content.source_tier = outcome.source_tier
    content.size_tokens = representation_at(page, level).size_tokens
    if level == 0 and page.HasField("media"):
        content.data = data
    else:
        content.text = data.decode()
    return response
