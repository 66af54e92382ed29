"""A session on a connection. It remembers the newest revision that it was answered, so it reads its own writes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from pagekeeper.client.requests import made
from pagekeeper.core.errors import LevelUnavailable
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2

if TYPE_CHECKING:
    from pagekeeper.client.connection import Pagekeeper


class Session:
    """One session of a tenant.

    A read is at least as new as the newest revision that was answered here. A read of `strict()` also shows what every
    other client had written before the read.
    """

    def __init__(self, pagekeeper: "Pagekeeper", session_id: str, revision: int, *, strict: bool = False) -> None:
        self._pagekeeper = pagekeeper
        self._strict = strict
        self.session_id = session_id
        self.revision = revision
        """The newest revision that was answered; every read here is at least that new."""

    def _at(self, revision: int) -> None:
        self.revision = max(self.revision, revision)

    def strict(self) -> "Session":
        """The same session, each read of which asks the log: one round trip more, and nothing that is missed."""
        return Session(self._pagekeeper, self.session_id, self.revision, strict=True)

    async def get(self) -> session_pb2.Session:
        """The session's settings and position."""
        request = made(
            pb.GetSessionRequest, session_id=self.session_id, min_revision=self.revision, strict=self._strict
        )
        response = await self._pagekeeper.api.get_session(self._pagekeeper.caller(), request)
        return response.session

    # Writing

    async def append(
        self, *pages: page_pb2.PageInput, request_id: str = "", expected_revision: int = 0
    ) -> pb.AppendPagesResponse:
        """Append pages, all or none. With `request_id`, calling again with the same pages appends nothing new.

        Raises PageExists, ContentTooLarge, InvalidField, RevisionConflict (`expected_revision` is stale), LogFull.
        """
        request = made(
            pb.AppendPagesRequest,
            request_id=request_id or uuid4().hex,
            session_id=self.session_id,
            expected_revision=expected_revision,
            pages=pages,
        )
        response = await self._pagekeeper.api.append_pages(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response

    async def begin_turn(self) -> int:
        """Begin a turn that no user's message begins; the answer is its number."""
        request = made(pb.BeginTurnRequest, request_id=uuid4().hex, session_id=self.session_id)
        response = await self._pagekeeper.api.begin_turn(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response.turn

    async def pin(self, *page_ids: str) -> None:
        """Protect pages from eviction. Raises PageNotFound, PinBudgetExceeded."""
        request = made(pb.PinPagesRequest, request_id=uuid4().hex, session_id=self.session_id, page_ids=page_ids)
        self._at((await self._pagekeeper.api.pin_pages(self._pagekeeper.caller(), request)).revision)

    async def unpin(self, *page_ids: str) -> None:
        request = made(pb.UnpinPagesRequest, request_id=uuid4().hex, session_id=self.session_id, page_ids=page_ids)
        self._at((await self._pagekeeper.api.unpin_pages(self._pagekeeper.caller(), request)).revision)

    async def set_importance(self, page_id: str, importance: float) -> None:
        """0 to 1. Raises PageNotFound, InvalidField."""
        request = made(
            pb.SetImportanceRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            page_id=page_id,
            importance=importance,
        )
        self._at((await self._pagekeeper.api.set_importance(self._pagekeeper.caller(), request)).revision)

    async def drop(self, *page_ids: str) -> None:
        """Drop pages from the session; its history still knows them. Raises PageNotFound."""
        request = made(pb.DropPagesRequest, request_id=uuid4().hex, session_id=self.session_id, page_ids=page_ids)
        self._at((await self._pagekeeper.api.drop_pages(self._pagekeeper.caller(), request)).revision)

    async def compress(self, *page_ids: str) -> Sequence[pb.MadeRepresentation]:
        """Make the lower representations of pages now. Raises PageNotFound."""
        request = made(pb.CompressPagesRequest, request_id=uuid4().hex, session_id=self.session_id, page_ids=page_ids)
        response = await self._pagekeeper.api.compress_pages(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response.made

    async def flush(self) -> pb.FlushSessionResponse:
        """Move the bytes of all dirty pages to the object store now."""
        request = made(pb.FlushSessionRequest, session_id=self.session_id, min_revision=self.revision)
        response = await self._pagekeeper.api.flush_session(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response

    async def close(self) -> None:
        """End the session; it can still be read."""
        request = made(pb.CloseSessionRequest, request_id=uuid4().hex, session_id=self.session_id)
        self._at((await self._pagekeeper.api.close_session(self._pagekeeper.caller(), request)).session.revision)

    async def delete(self) -> None:
        request = made(pb.DeleteSessionRequest, request_id=uuid4().hex, session_id=self.session_id)
        await self._pagekeeper.api.delete_session(self._pagekeeper.caller(), request)

    # Prompts

    async def assemble(  # noqa: PLR0913 - the fields of a request
        self,
        *,
        user_input: str = "",
        model: str = "",
        budget_tokens: int = 0,
        reserve_tokens: int = 0,
        system_prompt: str = "",
        extra_tools_json: Sequence[str] = (),
        demand_paging: session_pb2.DemandPaging.ValueType = session_pb2.DEMAND_PAGING_UNSPECIFIED,
        tool_format: pb.ToolFormat.ValueType = pb.TOOL_FORMAT_UNSPECIFIED,
    ) -> pb.AssemblePromptResponse:
        """The prompt for a model and a budget in tokens; the session's own where not given.

        `demand_paging` says who brings in pages that are not resident: the model, the runtime, or both. `tool_format`
        is the form of the tools: that of the model's provider when unspecified.

        Raises BudgetTooSmall, which says how many tokens are needed.
        """
        request = made(
            pb.AssemblePromptRequest,
            session_id=self.session_id,
            model=model,
            budget_tokens=budget_tokens,
            reserve_tokens=reserve_tokens,
            user_input=user_input,
            system_prompt=system_prompt,
            min_revision=self.revision,
            extra_tools_json=extra_tools_json,
            demand_paging=demand_paging,
            tool_format=tool_format,
            strict=self._strict,
        )
        response = await self._pagekeeper.api.assemble_prompt(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response

    async def report_usage(self, prompt: pb.AssemblePromptResponse, input_tokens: int, *, model: str = "") -> int:
        """Tell what the provider counted for an assembled prompt, its cache's share included.

        The answer is the margin that later prompts for `model` (the session's when empty) keep, in percent. Raises
        InvalidField for less than a fourth or more than four times what was counted here.
        """
        request = made(
            pb.ReportUsageRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            model=model,
            counted_tokens=prompt.tokens.counted,
            input_tokens=input_tokens,
        )
        response = await self._pagekeeper.api.report_usage(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response.margin_percent

    async def handle_tool_calls(self, *calls: pb.ToolCall, request_id: str = "") -> Sequence[pb.ToolMessage]:
        """Do what a model's tool calls ask; the answers go back to the model, in order."""
        request = made(
            pb.HandleToolCallsRequest,
            request_id=request_id or uuid4().hex,
            session_id=self.session_id,
            calls=calls,
            min_revision=self.revision,
        )
        response = await self._pagekeeper.api.handle_tool_calls(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response.messages

    # Pages

    async def fault(
        self,
        page_id: str,
        *,
        target_level: int = 0,
        reason: "page_pb2.FaultReason.ValueType" = page_pb2.FAULT_REASON_UNSPECIFIED,
    ) -> pb.FaultPageResponse:
        """Bring a page into the working set.

        Raises PageNotFound, LevelUnavailable, FaultLimitReached, FaultTokensExceeded.
        """
        request = made(
            pb.FaultPageRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            page_id=page_id,
            target_level=target_level,
            reason=reason,
            min_revision=self.revision,
        )
        response = await self._pagekeeper.api.fault_page(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response

    async def stream_fault(self, page_id: str, *, target_level: int = 0) -> AsyncIterator[pb.StreamFaultResponse]:
        """Yield the page's metadata at once, then the page. Raises as `fault`."""
        fault = made(
            pb.FaultPageRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            page_id=page_id,
            target_level=target_level,
            min_revision=self.revision,
        )
        request = made(pb.StreamFaultRequest, fault=fault)
        async for part in self._pagekeeper.api.stream_fault(self._pagekeeper.caller(), request):
            if part.HasField("page"):
                self._at(part.page.revision)
            yield part

    async def search(self, query: str, *, limit: int = 0) -> Sequence[pb.SearchHit]:
        """Pages by relevance to words; 5 unless told otherwise."""
        request = made(
            pb.SearchPagesRequest,
            session_id=self.session_id,
            query=query,
            limit=limit,
            min_revision=self.revision,
            strict=self._strict,
        )
        return (await self._pagekeeper.api.search_pages(self._pagekeeper.caller(), request)).hits

    async def page(self, page_id: str) -> page_pb2.Page:
        """Return a page's metadata. Raises PageNotFound."""
        request = made(
            pb.GetPageRequest,
            session_id=self.session_id,
            page_id=page_id,
            min_revision=self.revision,
            strict=self._strict,
        )
        return (await self._pagekeeper.api.get_page(self._pagekeeper.caller(), request)).page

    async def pages(
        self, *, page_type: "page_pb2.PageType.ValueType" = page_pb2.PAGE_TYPE_UNSPECIFIED
    ) -> AsyncIterator[page_pb2.Page]:
        """All pages in mapping order, or those of one type."""
        page_token = ""
        while True:
            request = made(
                pb.ListPagesRequest,
                session_id=self.session_id,
                page_token=page_token,
                page_type=page_type,
                min_revision=self.revision,
                strict=self._strict,
            )
            response = await self._pagekeeper.api.list_pages(self._pagekeeper.caller(), request)
            for page in response.pages:
                yield page
            page_token = response.next_page_token
            if not page_token:
                return

    async def read(self, page_id: str, *, version: int = 0, level: int = 0, offset: int = 0, length: int = 0) -> bytes:
        """A page's bytes, or `length` of them from `offset`; the working set does not change.

        Raises PageNotFound, LevelUnavailable, ContentCorrupt.
        """
        request = made(
            pb.ReadPageRequest,
            session_id=self.session_id,
            page_id=page_id,
            version=version,
            level=level,
            offset=offset,
            length=length,
            min_revision=self.revision,
            strict=self._strict,
        )
        content = (await self._pagekeeper.api.read_page(self._pagekeeper.caller(), request)).content
        return content.data if content.WhichOneof("content") == "data" else content.text.encode()

    async def preview(self, page_id: str, *, version: int = 0) -> page_pb2.MediaPreview | None:
        """Return a medium's preview: a thumbnail, a film's key frames, a cover; None without one, or before it is made.

        Raises PageNotFound, ContentCorrupt.
        """
        request = made(
            pb.ReadPageRequest,
            session_id=self.session_id,
            page_id=page_id,
            version=version,
            level=1,
            min_revision=self.revision,
            strict=self._strict,
        )
        try:
            content = (await self._pagekeeper.api.read_page(self._pagekeeper.caller(), request)).content
        except LevelUnavailable:
            return None
        return content.preview if content.HasField("preview") else None

    async def stats(self) -> session_pb2.SessionStats:
        """The session's counters and pressure."""
        request = made(pb.GetStatsRequest, session_id=self.session_id, min_revision=self.revision, strict=self._strict)
        return (await self._pagekeeper.api.get_stats(self._pagekeeper.caller(), request)).stats

    # The past

    async def checkpoint(self, name: str, *, checkpoint_id: str = "") -> session_pb2.Checkpoint:
        """Name the current revision. Raises CheckpointExists."""
        request = made(
            pb.CreateCheckpointRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            checkpoint_id=checkpoint_id,
            name=name,
        )
        response = await self._pagekeeper.api.create_checkpoint(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response.checkpoint

    async def checkpoints(self) -> AsyncIterator[session_pb2.Checkpoint]:
        """Checkpoints, oldest first."""
        page_token = ""
        while True:
            request = made(
                pb.ListCheckpointsRequest,
                session_id=self.session_id,
                page_token=page_token,
                min_revision=self.revision,
                strict=self._strict,
            )
            response = await self._pagekeeper.api.list_checkpoints(self._pagekeeper.caller(), request)
            for checkpoint in response.checkpoints:
                yield checkpoint
            page_token = response.next_page_token
            if not page_token:
                return

    async def restore(self, checkpoint_id: str) -> pb.RestoreCheckpointResponse:
        """Make the session what it was at a checkpoint. Raises CheckpointNotFound."""
        request = made(
            pb.RestoreCheckpointRequest, request_id=uuid4().hex, session_id=self.session_id, checkpoint_id=checkpoint_id
        )
        response = await self._pagekeeper.api.restore_checkpoint(self._pagekeeper.caller(), request)
        self._at(response.revision)
        return response

    async def fork(
        self, new_session_id: str = "", *, at_revision: int = 0, labels: Mapping[str, str] | None = None
    ) -> "Session":
        """A new session that begins as this one was. Raises SessionExists, RevisionNotFound."""
        request = made(
            pb.ForkSessionRequest,
            request_id=uuid4().hex,
            session_id=self.session_id,
            new_session_id=new_session_id,
            at_revision=at_revision,
            labels=labels or {},
        )
        forked = (await self._pagekeeper.api.fork_session(self._pagekeeper.caller(), request)).session
        return self._pagekeeper.session(forked.session_id, revision=forked.revision)

    async def context_at_turn(self, turn: int) -> pb.GetContextAtResponse:
        """The working set at the end of a turn. Raises RevisionNotFound."""
        request = made(
            pb.GetContextAtRequest,
            session_id=self.session_id,
            turn=turn,
            min_revision=self.revision,
            strict=self._strict,
        )
        return await self._pagekeeper.api.get_context_at(self._pagekeeper.caller(), request)

    async def page_history(self, page_id: str) -> AsyncIterator[session_pb2.PageHistoryEntry]:
        """The events of a page, oldest first; `page_history.event_text` puts one into words. Raises PageNotFound."""
        page_token = ""
        while True:
            request = made(
                pb.GetPageHistoryRequest,
                session_id=self.session_id,
                page_id=page_id,
                page_token=page_token,
                min_revision=self.revision,
            )
            response = await self._pagekeeper.api.get_page_history(self._pagekeeper.caller(), request)
            for entry in response.entries:
                yield entry
            page_token = response.next_page_token
            if not page_token:
                return

    async def replay(self) -> pb.ReplaySessionResponse:
        """Fold the log again and compare."""
        request = made(pb.ReplaySessionRequest, session_id=self.session_id, min_revision=self.revision)
        return await self._pagekeeper.api.replay_session(self._pagekeeper.caller(), request)
