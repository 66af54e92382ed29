"""The replay itself: append, assemble, let the model answer, hand its tool calls back, next turn.

The driver uses the public API alone, counts everything that can be counted itself, and never sends a model more than
the budget. When tool results have made a prompt too long, the driver assembles a new prompt, which holds the faulted
pages. A service that is away is waited for: each request is sent again, with its id, until it is answered or the outage
has lasted too long.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from demo.corpus.types import Conversation, Message, Recall, Role, ToolCall, Turn
from demo.model.port import ChatMessage, Model, Reply, ToolSchema
from demo.replay.recall import cited_pages, is_correct
from demo.replay.records import CallSeen, FaultSeen, RecallSeen, TurnSeen
from pagekeeper.core.errors import LogUnavailable, ServiceUnavailable, StoreUnavailable
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.errors import reason_name
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.limits import limits_of
from pagekeeper.runtime.tokens import ModelTokens, count_messages, count_tools, for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2

BUDGET_TOKENS: Final = 16_000
TOOL_ROUNDS_MAX: Final = 6
"""Times a model may call tools before it is asked without any."""

OUTAGE_SECONDS_MAX: Final = 30.0
OUTAGE_PAUSE_SECONDS: Final = 0.25

_AWAY: Final = (ServiceUnavailable, LogUnavailable, StoreUnavailable)
_APPEND_PAGES_MAX: Final = 128
_APPEND_BYTES_MAX: Final = 3 * 2**20
_TOOL_CALLS_MAX: Final = limits_of(pb.HandleToolCallsRequest, "calls").max_items

_ROLES: Final = {
    Role.SYSTEM: page_pb2.MESSAGE_ROLE_SYSTEM,
    Role.USER: page_pb2.MESSAGE_ROLE_USER,
    Role.ASSISTANT: page_pb2.MESSAGE_ROLE_ASSISTANT,
    Role.TOOL: page_pb2.MESSAGE_ROLE_TOOL,
}

Request = TypeVar("Request")
Response = TypeVar("Response")


class MemoryApi(Protocol):
    """The calls of `MemoryService` that a replay makes: the client's `api`, or the gateway's own object.

    A call that is repeated with the same request id is done once.
    """

    async def open_session(self, caller: Caller, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse: ...
    async def append_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse: ...
    async def assemble_prompt(self, caller: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse: ...
    async def handle_tool_calls(
        self, caller: Caller, request: pb.HandleToolCallsRequest
    ) -> pb.HandleToolCallsResponse: ...
    async def get_stats(self, caller: Caller, request: pb.GetStatsRequest) -> pb.GetStatsResponse: ...


@dataclass(frozen=True, slots=True)
class ReplayBudget:
    """How the model's window is shared out, which follows from its size, and who brings old pages into it."""

    total_tokens: int = BUDGET_TOKENS
    demand_paging: session_pb2.DemandPaging.ValueType = session_pb2.DEMAND_PAGING_HYBRID

    @property
    def answer_tokens(self) -> int:
        """Kept free in every prompt."""
        return self.total_tokens // 16

    @property
    def fault_tokens(self) -> int:
        """Return the most tokens that the faults of a turn may bring."""
        return self.total_tokens * 3 // 16

    @property
    def tool_turn_reserve_tokens(self) -> int:
        """Kept free in the first prompt of a turn that the model answers: tool results come on top of it."""
        return self.answer_tokens + self.fault_tokens

    def session_config(self, model: str) -> session_pb2.SessionConfig:
        """A session of this size, with room beside its pages for rules, tools, manifest and tool results."""
        return session_pb2.SessionConfig(
            max_l0_tokens=self.total_tokens,
            reserved_tokens=self.total_tokens * 5 // 16,
            max_fault_tokens_per_turn=self.fault_tokens,
            model=model,
            demand_paging=self.demand_paging,
        )


@dataclass(slots=True)
class _Tally:
    """Events of the turn that is being replayed."""

    calls: list[CallSeen] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    faults: list[FaultSeen] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    searches: int = 0
    evicted: int = 0
    compressed: int = 0
    appended: int = 0
    seen_tokens: int = 0
    repeated: int = 0

    def note(self, happenings: Sequence[session_pb2.Happening]) -> None:
        kinds = [happening.WhichOneof("kind") for happening in happenings]
        self.evicted += kinds.count("evicted")
        self.compressed += kinds.count("compressed")


class Replay:
    """One conversation in one session. `new_caller` makes the caller of one call, whose deadline runs from then on;
    `monotonic` answers seconds.
    """

    def __init__(
        self,
        memory: MemoryApi,
        new_caller: Callable[[], Caller],
        model: Model,
        session_id: str,
        budget: ReplayBudget,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._memory = memory
        self._new_caller = new_caller
        self._model = model
        self._session_id = session_id
        self._budget = budget
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens: ModelTokens = for_model(model.counted_as)
        self._tally = _Tally()
        self._requests = 0
        self._revision = 0

    async def run(self, conversation: Conversation) -> AsyncIterator[TurnSeen]:
        """Replay everything; each turn is answered when it is over."""
        config = self._budget.session_config(self._model.counted_as)
        opening = pb.OpenSessionRequest(
            request_id=self._next_request_id(), session_id=self._session_id, config=config, labels={"made_by": "replay"}
        )
        self._revision = (await self._call("OpenSession", self._memory.open_session, opening)).session.revision
        await self._append(conversation.system)
        for number, turn in enumerate(conversation.turns, 1):
            yield await self._turn(number, turn)
            self._tally = _Tally()

    async def stats(self) -> session_pb2.SessionStats:
        """The service's counters for the session."""
        request = pb.GetStatsRequest(session_id=self._session_id, min_revision=self._revision)
        return (await self._call("GetStats", self._memory.get_stats, request)).stats

    async def _turn(self, number: int, turn: Turn) -> TurnSeen:
        await self._append(turn.question)
        answering = not turn.reply
        reserve = self._budget.tool_turn_reserve_tokens if answering else self._budget.answer_tokens
        prompt = await self._assemble(reserve)
        recall = None
        if answering:
            text = await self._converse(_messages(prompt), _tools(prompt))
            if text.strip():
                await self._append([Message(f"reply-{number:05d}", Role.ASSISTANT, text)])
            recall = self._recalled(turn, text)
        else:
            await self._append(turn.reply)
        tally = self._tally
        return TurnSeen(
            number=number,
            said=turn.question[-1].text if turn.question else turn.reply[0].text,
            seen_tokens=tally.seen_tokens,
            l0_tokens=sum(page.size_tokens for page in prompt.pages),
            prompt_tokens=tuple(tally.prompts),
            service_tokens=prompt.tokens.total,
            appended=tally.appended,
            faults=tuple(tally.faults),
            recalled=len(prompt.recalled_page_ids),
            searches=tally.searches,
            refused_calls=tuple(tally.refused),
            evicted=tally.evicted,
            compressed=tally.compressed,
            repeated=tally.repeated,
            calls=tuple(tally.calls),
            recall=recall,
        )

    def _recalled(self, turn: Turn, reply: str) -> RecallSeen | None:
        if turn.recall is None:
            return None
        recall: Recall = turn.recall
        return RecallSeen(
            topic=recall.topic,
            question=turn.question[-1].text,
            reply=reply,
            expected=recall.answer,
            evidence=recall.evidence,
            shown=tuple(page_id for page_id in recall.evidence if page_id in self._tally.shown),
            cited=cited_pages(reply),
            correct=is_correct(recall, reply, frozenset(self._tally.shown)),
        )

    async def _append(self, messages: Sequence[Message]) -> None:
        inputs = [_page(message) for message in messages]
        for batch in batches(
            inputs, page_pb2.PageInput.ByteSize, count_max=_APPEND_PAGES_MAX, bytes_max=_APPEND_BYTES_MAX
        ):
            request = pb.AppendPagesRequest(
                request_id=self._next_request_id(), session_id=self._session_id, pages=batch
            )
            response = await self._call("AppendPages", self._memory.append_pages, request)
            self._revision = response.revision
            self._tally.note(response.happenings)
            self._tally.appended += len(batch)
            self._tally.seen_tokens += sum(self._counted(self._tokens.tokenizer.count(page.text)) for page in batch)

    async def _assemble(self, reserve_tokens: int) -> pb.AssemblePromptResponse:
        request = pb.AssemblePromptRequest(
            session_id=self._session_id,
            model=self._model.counted_as,
            budget_tokens=self._budget.total_tokens,
            reserve_tokens=reserve_tokens,
            min_revision=self._revision,
            tool_format=pb.TOOL_FORMAT_FUNCTION,
        )
        prompt = await self._call("AssemblePrompt", self._memory.assemble_prompt, request)
        self._tally.prompts.append(self._prompt_tokens(_messages(prompt), _tools(prompt)))
        self._tally.shown.update(page.page_id for page in prompt.pages if page.level == 0)
        return prompt

    async def _converse(self, messages: list[ChatMessage], tools: list[ToolSchema]) -> str:
        """Let the model answer, doing what its tool calls ask. The last resort is a new prompt without tools."""
        for _ in range(TOOL_ROUNDS_MAX):
            reply = await self._ask(messages, tools)
            if not reply.tool_calls:
                return reply.text
            messages += [_assistant_message(reply), *await self._tool_messages(reply.tool_calls)]
            size_tokens = self._prompt_tokens(messages, tools)
            if size_tokens > self._budget.total_tokens - self._budget.answer_tokens:
                break
            self._tally.prompts.append(size_tokens)
        last = await self._assemble(self._budget.answer_tokens)
        return (await self._ask(_messages(last), [])).text

    async def _tool_messages(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        answered: list[ChatMessage] = []
        for start in range(0, len(calls), _TOOL_CALLS_MAX):
            batch = calls[start : start + _TOOL_CALLS_MAX]
            request = pb.HandleToolCallsRequest(
                request_id=self._next_request_id(),
                session_id=self._session_id,
                calls=[pb.ToolCall(id=call.call_id, name=call.name, arguments_json=call.arguments) for call in batch],
                min_revision=self._revision,
            )
            response = await self._call("HandleToolCalls", self._memory.handle_tool_calls, request)
            self._revision = max(self._revision, response.revision)
            for call, message in zip(batch, response.messages, strict=True):
                self._note_tool_message(call, message)
                answered.append({"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content})
        return answered

    def _note_tool_message(self, call: ToolCall, message: pb.ToolMessage) -> None:
        if message.failure:
            self._tally.refused.append(reason_name(message.failure).lower())
        elif message.HasField("fault"):
            fault = _fault(message.fault)
            self._tally.faults.append(fault)
            self._tally.note(message.fault.happenings)
            if fault.level == 0:
                self._tally.shown.add(fault.page_id)
        elif call.name == "search_pages":
            self._tally.searches += 1

    def _prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> int:
        """Tokens of the request as it would be sent, by the model's own tokenizer or with the stated margin."""
        counter = self._tokens.tokenizer
        return self._counted(count_messages(counter, messages) + count_tools(counter, tools))

    def _counted(self, tokens: int) -> int:
        return -(-tokens * self._tokens.margin_percent // 100)

    async def _call(
        self, name: str, method: Callable[[Caller, Request], Awaitable[Response]], request: Request
    ) -> Response:
        """The answer, however often the service has to be asked; the time that it took includes all of that."""
        start = self._monotonic()
        while True:
            try:
                response = await method(self._new_caller(), request)
            except _AWAY:
                if self._monotonic() - start > OUTAGE_SECONDS_MAX:
                    raise
                self._tally.repeated += 1
                await self._sleep(OUTAGE_PAUSE_SECONDS)
            else:
                self._note_call(name, start)
                return response

    async def _ask(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        start = self._monotonic()
        reply = await self._model.complete(messages, tools)
        self._note_call("model", start)
        return reply

    def _note_call(self, name: str, start: float) -> None:
        self._tally.calls.append(CallSeen(name, (self._monotonic() - start) * 1_000))

    def _next_request_id(self) -> str:
        self._requests += 1
        return f"replay-{self._requests:06d}"


def _page(message: Message) -> page_pb2.PageInput:
    return page_pb2.PageInput(
        page_id=message.page_id,
        role=_ROLES[message.role],
        modality=page_pb2.MODALITY_STRUCTURED if _is_json(message) else page_pb2.MODALITY_TEXT,
        text=_page_text(message),
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
        speaker=message.speaker,
        said_unix_ms=message.said_unix_ms,
    )


def _page_text(message: Message) -> str:
    """Return the assistant's words with its calls, so that the model knows where a tool's result came from."""
    calls = [f"[calls {call.name} {call.arguments}]" for call in message.tool_calls]
    return "\n".join(filter(None, [message.text, *calls]))


def _is_json(message: Message) -> bool:
    if message.role is not Role.TOOL or not message.text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(message.text)
    except (ValueError, RecursionError):
        return False
    return True


def _messages(prompt: pb.AssemblePromptResponse) -> list[ChatMessage]:
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def _tools(prompt: pb.AssemblePromptResponse) -> list[ToolSchema]:
    tools: list[ToolSchema] = json.loads(prompt.tools_json)
    return tools


def _assistant_message(reply: Reply) -> ChatMessage:
    calls = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.tool_calls
    ]
    return {"role": "assistant", "content": reply.text or None, "tool_calls": calls}


def _fault(outcome: pb.FaultOutcome) -> FaultSeen:
    return FaultSeen(
        page_id=outcome.page_id,
        reason=page_pb2.FaultReason.Name(outcome.reason).removeprefix("FAULT_REASON_").lower(),
        source_tier=page_pb2.StorageTier.Name(outcome.source_tier).removeprefix("STORAGE_TIER_"),
        level=outcome.level,
        size_tokens=outcome.size_tokens,
        promoted=outcome.promoted,
    )
