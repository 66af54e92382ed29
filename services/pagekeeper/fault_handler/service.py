"""FaultHandlerService: look up, load, admit, in that order, so that what is admitted can be read.

Working-set admits the version and level that were read or nothing, so nothing that others do in between can make a page
resident that nobody has read. When the page has changed meanwhile, all three are done again.
"""

from collections.abc import AsyncGenerator
from typing import Final

from pagekeeper.core.errors import (
    ContentCorrupt,
    ContentTooLarge,
    FaultLimitReached,
    FaultTokensExceeded,
    LevelUnavailable,
    PageNotFound,
    RevisionConflict,
)
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.previews import parted
from pagekeeper.fault_handler.compressing import Compressing
from pagekeeper.fault_handler.entries import Entries, Found
from pagekeeper.fault_handler.loading import Loader, level_for
from pagekeeper.fault_handler.ports import WorkingSetPort
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id
from pagekeeper.runtime.views import representation_of
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb

ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024 - 128 * 1024
"""Of the pages of one answer, so that the last of them has room for its facts in a message beside its content."""
ATTEMPTS_MAX: Final = 4
"""How often a page may change, between being read and being admitted, before its fault gives up."""
OF_ONE_PAGE: Final = (
    PageNotFound,
    LevelUnavailable,
    FaultLimitReached,
    FaultTokensExceeded,
    RevisionConflict,
    ContentCorrupt,
    ContentTooLarge,
)
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
        found = await self._entries.find(caller, key, request.page_id, request.min_revision)
        return await self._bring_in(caller, key, request, found)

    async def fault_many(self, caller: Caller, request: pb.FaultPagesRequest) -> pb.FaultPagesResponse:
        """One after the other, in the order of the request: when the turn's faults are used up, the last ones miss.

        Before a page is brought in, what the answer will say of it is added up: the answer of every fault can be had.
        """
        key = session_key(caller.tenant, request.session_id)
        room_bytes = ANSWER_BYTES_MAX
        known = await self._read_ahead(caller, key, request)
        response = pb.FaultPagesResponse(revision=max([request.min_revision, *(f.revision for f in known.values())]))
        for index, page_id in enumerate(request.page_ids):
            one = pb.FaultPageRequest(
                request_id=derived_id("fault", request.request_id, index),
                session_id=request.session_id,
                page_id=page_id,
                target_level=request.target_level,
                reason=request.reason,
                min_revision=response.revision,
                content_bytes_max=max(1, room_bytes),
            )
            try:
                found = known.get(page_id)
                faulted = await (self._bring_in(caller, key, one, found) if found else self.fault(caller, one))
            except OF_ONE_PAGE as refusal:
                item = pb.FaultItem(
                    page_id=page_id, failure=reason_number(type(refusal)), error_message=refusal.message
                )
            else:
                item = pb.FaultItem(page_id=page_id, fault=faulted)
                response.revision = max(response.revision, faulted.revision)
                room_bytes -= item.ByteSize()
            response.items.append(item)
        return response

    async def stream_fault(
        self, caller: Caller, request: pb.StreamFaultRequest
    ) -> AsyncGenerator[pb.StreamFaultResponse, None]:
        fault = request.fault
        key = session_key(caller.tenant, fault.session_id)
        found = await self._entries.find(caller, key, fault.page_id, fault.min_revision)
        yield pb.StreamFaultResponse(placeholder=found.page)
        yield pb.StreamFaultResponse(page=await self._bring_in(caller, key, fault, found))

    async def _read_ahead(self, caller: Caller, key: SessionKey, request: pb.FaultPagesRequest) -> dict[str, Found]:
        """Look up and load all pages at once. When one of them does not exist, each is left to its own fault."""
        try:
            known = await self._entries.find_many(caller, key, request.page_ids, request.min_revision)
        except PageNotFound:
            return {}
        wanted = [(found, level_for(found.page, request.target_level)) for found in known.values()]
        await self._loader.read_ahead(caller, wanted)
        return known

    async def _bring_in(
        self, caller: Caller, key: SessionKey, request: pb.FaultPageRequest, found: Found
    ) -> pb.FaultPageResponse:
        for attempts_left in reversed(range(ATTEMPTS_MAX)):
            level = level_for(found.page, request.target_level)
            _check_size(request, found.page, level)
            found, data = await self._loader.read(caller, key, found, level)
            try:
                admitted = await self._admit(caller, request, found, level)
            except RevisionConflict as changed:
                if not attempts_left:
                    raise
                (found,) = await self._entries.look_up(caller, key, [request.page_id], changed.actual)
                continue
            self._entries.advance(key, admitted.previous_revision, admitted.revision)
            outcome = admitted.outcome
            if (outcome.version, outcome.level) != (found.page.version, level):
                # It was resident at a higher fidelity already, or this request was carried out before.
                found = Found(admitted.page, admitted.revision, {})
                _check_size(request, found.page, outcome.level)
                _, data = await self._loader.read(caller, key, found, outcome.level)
            return _response(admitted, data)
        raise AssertionError("the last attempt returns or raises")

    async def _admit(
        self, caller: Caller, request: pb.FaultPageRequest, found: Found, level: int
    ) -> working_pb.AdmitResponse:
        return await self._working_set.admit(
            caller,
            working_pb.AdmitRequest(
                request_id=request.request_id,
                session_id=request.session_id,
                page_id=request.page_id,
                target_level=request.target_level,
                reason=request.reason,
                min_revision=max(request.min_revision, found.revision),
                version=found.page.version,
                level=level,
            ),
        )


def _check_size(request: pb.FaultPageRequest, page: page_pb2.Page, level: int) -> None:
    """Raises ContentTooLarge for a page of which the answer could not be had."""
    size_bytes = representation_of(page, level).size_bytes
    if request.content_bytes_max and size_bytes > request.content_bytes_max:
        raise ContentTooLarge(f"page {page.page_id}", size_bytes, request.content_bytes_max)


def _response(admitted: working_pb.AdmitResponse, data: bytes) -> pb.FaultPageResponse:
    outcome, page = admitted.outcome, admitted.page
    content = page_pb2.PageContent(
        page_id=page.page_id,
        version=outcome.version,
        level=outcome.level,
        source_tier=outcome.source_tier,
        size_tokens=outcome.size_tokens,
    )
    if outcome.level == 0 and page.HasField("media"):
        content.data = data
    else:
        text, preview = parted(data, representation_of(page, outcome.level).preview_mime_type)
        content.text = text.decode()
        if preview is not None:
            content.preview.CopyFrom(page_pb2.MediaPreview(mime_type=preview.mime_type, data=preview.data))
    return pb.FaultPageResponse(revision=admitted.revision, page=page, content=content, outcome=outcome)
