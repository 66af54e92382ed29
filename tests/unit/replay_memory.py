"""A small memory that keeps what replays rely on: it shows the tail that fits, finds pages by words, faults them in.

Its prompts, envelopes and lines are those of `pagekeeper.memory`, so a model that can read them can read the service's.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pagekeeper.core.errors import FaultLimitReached, PagekeeperError, PageNotFound
from pagekeeper.core.events import VMMode
from pagekeeper.core.packing import prefix_of, render_line
from pagekeeper.core.pages import MessageRole, Modality, PageType, StorageTier
from pagekeeper.core.prompt import build_vm_developer_message
from pagekeeper.core.tools import (
    FaultedPage,
    FaultEffects,
    FoundPage,
    PageFaultCall,
    SearchPagesCall,
    ToolCallProblem,
    get_vm_tools_as_dicts,
    parse_tool_call,
    render_problem,
    render_search_result,
    render_tool_result,
)
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.tokens import EncodingName, count_messages, count_tools, tokenizer
from pagekeeper.v1 import error_reason_pb2, page_pb2, session_pb2
from pagekeeper.v1 import memory_service_pb2 as pb

ROLES = {
    page_pb2.MESSAGE_ROLE_SYSTEM: MessageRole.SYSTEM,
    page_pb2.MESSAGE_ROLE_USER: MessageRole.USER,
    page_pb2.MESSAGE_ROLE_ASSISTANT: MessageRole.ASSISTANT,
    page_pb2.MESSAGE_ROLE_TOOL: MessageRole.TOOL,
}
FAULTS_A_TURN_MAX = 3


@dataclass
class Stored:
    page_id: str
    role: MessageRole
    text: str
    line: str
    size_tokens: int
    turn: int
    words: frozenset[str]


@dataclass
class TailMemory:
    """Implements `MemoryApi`. `requests` keeps everything that it was asked."""

    pages: dict[str, Stored] = field(default_factory=dict)
    resident: list[str] = field(default_factory=list)
    faulted: dict[str, int] = field(default_factory=dict)
    requests: list[object] = field(default_factory=list)
    appended: dict[str, pb.AppendPagesResponse] = field(default_factory=dict)
    limit_tokens: int = 0
    turn: int = 0
    revision: int = 0
    faults_this_turn: int = 0
    faults_total: int = 0
    evictions_total: int = 0

    async def open_session(self, _: Caller, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
        self.requests.append(request)
        self.limit_tokens = request.config.max_l0_tokens - request.config.reserved_tokens
        self.revision += 1
        return pb.OpenSessionResponse(session=session_pb2.Session(revision=self.revision))

    async def append_pages(self, _: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
        self.requests.append(request)
        if request.request_id in self.appended:
            return self.appended[request.request_id]
        self.revision += 1
        response = self.appended[request.request_id] = pb.AppendPagesResponse(revision=self.revision)
        for page in request.pages:
            assert page.page_id not in self.pages
            if page.role == page_pb2.MESSAGE_ROLE_USER:
                self.turn += 1
                self.faults_this_turn = 0
            role = ROLES[page.role]
            line = render_line(prefix_of(Modality.TEXT, PageType.TRANSCRIPT, role), page.page_id, 0, page.text)
            self.pages[page.page_id] = Stored(
                page.page_id, role, page.text, line, count(line), self.turn, words(page.text)
            )
            self.resident.append(page.page_id)
            response.pages.append(pb.AppendedPage(page_id=page.page_id, size_tokens=count(line), resident=True))
        response.happenings.extend(self._make_room())
        return response

    def _make_room(self) -> list[session_pb2.Happening]:
        happenings = []
        while sum(self.pages[page_id].size_tokens for page_id in self.resident) > self.limit_tokens:
            protected = {page_id for page_id, turn in self.faulted.items() if turn > self.turn - 2}
            victim = next(page_id for page_id in self.resident if page_id not in protected)
            self.resident.remove(victim)
            self.faulted.pop(victim, None)
            self.evictions_total += 1
            evicted = session_pb2.Evicted(page_id=victim, size_tokens=self.pages[victim].size_tokens)
            happenings.append(session_pb2.Happening(evicted=evicted, revision=self.revision, turn=self.turn))
        return happenings

    async def assemble_prompt(self, _: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
        self.requests.append(request)
        question = next(page for page in reversed(self.pages.values()) if page.role is MessageRole.USER)
        context = [self.pages[page_id] for page_id in self.resident if page_id not in self.faulted]
        faulted = [self.pages[page_id] for page_id in self.resident if page_id in self.faulted]
        lines = [page.line for page in context if page is not question]
        developer = build_vm_developer_message(VMMode.STRICT, '{"available_pages":{}}', "".join(lines))
        section = f"<VM:FAULTED>\n{''.join(page.line for page in faulted)}</VM:FAULTED>\n\n" if faulted else ""
        messages = [{"role": "developer", "content": developer}, {"role": "user", "content": section + question.text}]
        tools = get_vm_tools_as_dicts()
        counter = tokenizer(EncodingName.O200K_BASE)
        total = count_messages(counter, messages) + count_tools(counter, tools)
        shown = [session_pb2.ResidentPage(page_id=p.page_id, size_tokens=p.size_tokens) for p in [*context, *faulted]]
        return pb.AssemblePromptResponse(
            revision=self.revision,
            messages=[pb.PromptMessage(**message) for message in messages],
            tools_json=json.dumps(tools),
            tokens=pb.PromptTokens(total=total, budget=request.budget_tokens),
            pages=shown,
        )

    async def handle_tool_calls(self, _: Caller, request: pb.HandleToolCallsRequest) -> pb.HandleToolCallsResponse:
        self.requests.append(request)
        return pb.HandleToolCallsResponse(
            revision=self.revision, messages=[self._answer(call) for call in request.calls]
        )

    def _answer(self, call: pb.ToolCall) -> pb.ToolMessage:
        match parse_tool_call(call.name, call.arguments_json):
            case SearchPagesCall(query=query, limit=limit):
                found = self._search(query, limit)
                return pb.ToolMessage(tool_call_id=call.id, content=render_search_result(found, len(self.pages)))
            case PageFaultCall(page_id=page_id) if page_id not in self.pages:
                return _problem(call, PageNotFound(page_id), page_id)
            case PageFaultCall(page_id=page_id) if self.faults_this_turn == FAULTS_A_TURN_MAX:
                return _problem(call, FaultLimitReached("Answer with what you have."), page_id)
            case PageFaultCall(page_id=page_id):
                return self._fault(call.id, self.pages[page_id])
            case ToolCallProblem() as problem:
                return pb.ToolMessage(
                    tool_call_id=call.id,
                    content=render_problem(problem),
                    failure=error_reason_pb2.ERROR_REASON_INVALID_FIELD,
                )

    def _fault(self, call_id: str, page: Stored) -> pb.ToolMessage:
        self.faults_this_turn += 1
        promoted = page.page_id not in self.resident
        if promoted:
            self.faults_total += 1
            self.resident.append(page.page_id)
            self.faulted[page.page_id] = self.turn
        happenings = self._make_room()
        evictions = tuple(happening.evicted.page_id for happening in happenings)
        shown = FaultedPage(page.page_id, Modality.TEXT, 0, StorageTier.L2, page.text)
        outcome = pb.FaultOutcome(
            page_id=page.page_id,
            reason=page_pb2.FAULT_REASON_RESOLVE_REFERENCE,
            source_tier=page_pb2.STORAGE_TIER_L2,
            size_tokens=page.size_tokens,
            promoted=promoted,
            happenings=happenings,
        )
        content = render_tool_result(shown, FaultEffects(promoted, page.size_tokens, evictions))
        return pb.ToolMessage(tool_call_id=call_id, content=content, fault=outcome)

    def _search(self, query: str, limit: int) -> Sequence[FoundPage]:
        asked = words(query)
        spread = {word: sum(word in page.words for page in self.pages.values()) for word in asked}
        scores = []
        for page in self.pages.values():
            score = sum(1 / spread[word] for word in asked & page.words)
            scores.append((score / (1 + page.size_tokens / 2_000), page))
        best = sorted(scores, key=lambda scored: scored[0], reverse=True)[:limit]
        top = best[0][0] or 1.0
        return [
            FoundPage(page.page_id, Modality.TEXT, StorageTier.L2, (0,), snippet(page.text, asked), score / top)
            for score, page in best
            if score
        ]

    async def get_stats(self, _: Caller, request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        self.requests.append(request)
        stats = session_pb2.SessionStats(
            limit_tokens=self.limit_tokens,
            faults_total=self.faults_total,
            evictions_total=self.evictions_total,
            total_pages=len(self.pages),
        )
        return pb.GetStatsResponse(stats=stats, revision=self.revision)


def count(text: str) -> int:
    return tokenizer(EncodingName.O200K_BASE).count(text)


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def snippet(text: str, asked: frozenset[str]) -> str:
    return max(text.splitlines() or [""], key=lambda line: len(asked & words(line)))[:160]


def _problem(call: pb.ToolCall, refusal: PagekeeperError, page_id: str) -> pb.ToolMessage:
    content = render_problem(ToolCallProblem.from_refusal(refusal, page_id))
    return pb.ToolMessage(tool_call_id=call.id, content=content, failure=reason_number(type(refusal)))
