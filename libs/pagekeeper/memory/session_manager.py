"""A conversation with memory behind one object: what is said goes in, what to send to the model comes out.

The memory is in this process, or in a running stack when a client of one is given; the object is the same.

    sm = SessionManager(enable_vm=True)
    sm = SessionManager(client=pagekeeper, session_id="support-4711")

In this process it needs no server and no gRPC, decides what a stack decides, and may be saved to one file. It may be
used from any thread, one at a time.

What happens at the end of a segment: its messages get a checkpoint and a summary, the summary is pinned, and in this
process everything in the prompt that is not pinned leaves it; a page that left is one page fault away.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pydantic import Field

from pagekeeper.core.pages import MessageRole
from pagekeeper.core.wellformed import whole_text, write_json
from pagekeeper.memory import saved_file
from pagekeeper.memory.arguments import InvalidArgument, checked
from pagekeeper.memory.chat_response import ChatMessage, Completion, ToolCall, answered
from pagekeeper.memory.compressor import CompressorRegistry
from pagekeeper.memory.eviction_policy import EvictionPolicy
from pagekeeper.memory.manager import DEFAULT_MODEL, MemoryManager
from pagekeeper.memory.models import FaultResult, SearchResult, VMContext, VMMode
from pagekeeper.memory.models.strict import KeyedModel
from pagekeeper.memory.process_memory import ProcessMemory, Transcript
from pagekeeper.memory.session_memory import (
    IMPORTANCE,
    PagedMemory,
    SessionMemories,
    SessionMemory,
    Spoken,
    Utterance,
    VirtualMemoryDisabled,
)
from pagekeeper.memory.shown import shown
from pagekeeper.memory.summaries import SummarizationStrategy, summarize
from pagekeeper.memory.working_set import WorkingSetConfig
from pagekeeper.runtime.tokens import for_model

__all__ = ["SessionManager", "SessionStats"]

TOKENS_PER_SEGMENT: Final = 4_000
MESSAGES_PER_SEGMENT: Final = 20

SAME_IN_A_STACK: Final = frozenset({"max_l0_tokens", "reserved_tokens", "eviction_threshold", "target_utilization"})
"""Settings of a WorkingSetConfig that a session has by the same name; the stack's defaults stand for the others."""

OF_THE_FILE: Final = frozenset({"session_id", "client", "vm_config", "vm_mode", "vm_eviction_policy"})
"""Arguments of the constructor that a saved memory brings with it."""

Summarizer = Callable[[list[dict[str, str]]], Awaitable[str]]
"""Messages in, their summary out: a language model's, for instance."""


class SessionStats(KeyedModel):
    """Figures of a conversation; times are ISO 8601."""

    session_id: str
    session_segments: int
    session_chain: list[str] = Field(default_factory=list)
    total_messages: int
    total_events: int
    user_messages: int
    ai_messages: int
    tool_calls: int
    total_tokens: int
    created_at: str
    last_update: str
    infinite_context: bool


@checked
class SessionManager:
    """See the module. Its methods are for one conversation: call them one after another, as it is spoken."""

    def __init__(  # noqa: PLR0913 - the names of the guide
        self,
        session_id: str | None = None,
        system_prompt: str | None = None,
        *,
        client: SessionMemories | None = None,
        infinite_context: bool = False,
        token_threshold: int = TOKENS_PER_SEGMENT,
        max_turns_per_segment: int = MESSAGES_PER_SEGMENT,
        summarization_strategy: SummarizationStrategy = SummarizationStrategy.BASIC,
        default_model: str = DEFAULT_MODEL,
        enable_vm: bool = False,
        vm_config: WorkingSetConfig | None = None,
        vm_mode: VMMode = VMMode.STRICT,
        vm_eviction_policy: EvictionPolicy | str | None = None,
        vm_compressor_registry: CompressorRegistry | None = None,
    ) -> None:
        """With `client`, the memory is that stack's, and `enable_vm` goes without saying.

        Tokens are counted as `default_model` counts them; requests are for it unless they say otherwise.
        `vm_eviction_policy` is an object in this process, and the name of a policy of its own for a stack. A segment
        ends after `token_threshold` tokens or `max_turns_per_segment` messages, whichever comes first.

        Raises InvalidArgument when a stack is asked to run code of this process, and for settings of a virtual memory
        without one.
        """
        if client is None and not enable_vm:
            refuse_settings(
                vm_config=vm_config,
                vm_mode=None if vm_mode is VMMode.STRICT else vm_mode,
                vm_eviction_policy=vm_eviction_policy,
                vm_compressor_registry=vm_compressor_registry,
            )
        chosen_id = session_id or str(uuid4())
        self._default_model = default_model
        self._tokens = for_model(default_model)
        self._memory: SessionMemory
        self._vm: MemoryManager | None = None
        if client is not None:
            if vm_compressor_registry is not None:
                raise InvalidArgument("vm_compressor_registry", "must be None with a client: a stack has its own")
            if not isinstance(vm_eviction_policy, str | None):
                raise InvalidArgument(
                    "vm_eviction_policy", "must be a name with a client: a stack evicts by a policy of its own"
                )
            config = stack_config(default_model, vm_mode, vm_config, vm_eviction_policy)
            self._memory = client.session_memory(chosen_id, config)
        elif enable_vm:
            self._vm = MemoryManager(
                session_id=chosen_id,
                config=vm_config,
                mode=vm_mode,
                eviction_policy=vm_eviction_policy,
                compressor_registry=vm_compressor_registry,
                model=default_model,
            )
            self._memory = ProcessMemory(self._vm)
        else:
            self._memory = Transcript(chosen_id, self._count)
        self._system_prompt = system_prompt
        self._infinite_context = infinite_context
        self._token_threshold = token_threshold
        self._max_turns_per_segment = max_turns_per_segment
        self._strategy = summarization_strategy
        self._summarizer: Summarizer = self._extract

    def __repr__(self) -> str:
        memory = self._vm or type(self._memory).__name__
        return f"{type(self).__name__}(session_id={shown(self.session_id)}, {memory})"

    @property
    def session_id(self) -> str:
        """In this process every segment has an id of its own; a stack's session keeps its id."""
        return self._memory.session_id

    @property
    def system_prompt(self) -> str | None:
        return self._system_prompt

    @property
    def is_infinite(self) -> bool:
        return self._infinite_context

    @property
    def vm(self) -> MemoryManager | None:
        """The memory in this process; None without virtual memory, and when a stack has it."""
        return self._vm

    @property
    def session(self) -> Any:  # noqa: ANN401 - a `pagekeeper.client.Session`, which this package does not know
        """The stack's session, with all that a stack can do; None when the memory is in this process."""
        return getattr(self._memory, "session", None)

    async def update_system_prompt(self, prompt: str) -> None:
        """Use another system prompt from the next request on."""
        self._system_prompt = prompt

    def set_summary_callback(self, callback: Summarizer) -> None:
        """Let `callback` summarise segments; `SummarizationStrategy.prompt` says what to ask of a language model."""
        self._summarizer = callback

    # What happens in the conversation. The answer is the session's id.

    async def user_says(self, message: str, **metadata: object) -> str:
        """The user's next words; they begin a turn."""
        await self._append(MessageRole.USER, message, metadata)
        return self.session_id

    async def ai_responds(
        self, response: str, model: str = "unknown", provider: str = "unknown", **metadata: object
    ) -> str:
        """The model's answer."""
        await self._append(MessageRole.ASSISTANT, response, {"model": model, "provider": provider, **metadata})
        return self.session_id

    async def tool_used(
        self,
        tool_name: str,
        arguments: Mapping[str, Any],
        result: object,
        error: str | None = None,
        **metadata: object,
    ) -> str:
        """Remember a call of the application's tool. `arguments` and `result` are kept as JSON."""
        done = {"tool": tool_name, "arguments": arguments, "result": result}
        text = write_json(done if error is None else {**done, "error": error}, "result")
        await self._memory.open()
        await self._memory.append(_utterance(MessageRole.TOOL, text, metadata, tool_name))
        return self.session_id

    # What to send to the model

    async def get_messages_for_llm(
        self,
        include_system: bool = True,  # noqa: FBT001, FBT002 - that system's signature
    ) -> list[ChatMessage]:
        """The messages of a request: instructions and memory first. Without the system, the segment's bare messages."""
        await self._memory.open()
        if not include_system:
            return list(_bare(await self._memory.spoken(all_segments=False)))
        messages, _ = await self._memory.request(self._system_prompt or "", self._default_model)
        return messages

    async def build_request(self, model: str = "") -> dict[str, Any]:
        """A request to Chat Completions, with the tools by which the model reads its memory."""
        model = model or self._default_model
        await self._memory.open()
        messages, tools = await self._memory.request(self._system_prompt or "", model)
        request: dict[str, Any] = {"model": model, "messages": messages}
        return {**request, "tools": tools} if tools else request

    async def process_response(self, response: Completion | Mapping[str, Any]) -> dict[str, Any] | str:
        """The model's answer; or, when it called tools, what the next request has to say more.

        That is `assistant_message`, which called them, and `tool_results`, which answer the calls to the memory. Calls
        to the application's own tools are left to it, under `tool_calls`: a request needs an answer to each of them.
        """
        return await answered(response, self._answer)

    def get_vm_context(self, model_id: str = "", token_budget: int | None = None) -> VMContext | None:
        """The parts of the memory's message; None unless the memory is in this process."""
        if self._vm is None:
            return None
        prompt = self._system_prompt or ""
        return self._vm.build_context(system_prompt=prompt, model_id=model_id, token_budget=token_budget)

    # The memory itself. Raises VirtualMemoryDisabled when there is none.

    async def search_pages(self, query: str, modality: str | None = None, limit: int = 5) -> SearchResult:
        """Pages by relevance to words."""
        return await (await self._pages()).search(query, modality, limit)

    async def handle_fault(self, page_id: str, target_level: int = 0) -> FaultResult:
        """Bring a page into the prompt at that level, 0 for word for word."""
        return await (await self._pages()).fault(page_id, target_level)

    async def pin_page(self, page_id: str) -> None:
        """Keep a page in the prompt."""
        await (await self._pages()).pin(page_id)

    async def unpin_page(self, page_id: str) -> None:
        await (await self._pages()).unpin(page_id)

    async def checkpoint(self, name: str) -> str:
        """Name the present state; the answer is the checkpoint's id."""
        return await (await self._pages()).checkpoint(name)

    async def restore_checkpoint(self, checkpoint_id: str) -> None:
        """Bring back what was in the prompt at a checkpoint."""
        await (await self._pages()).restore(checkpoint_id)

    # One file

    def save(self, path: Path | str) -> None:
        """Write the whole memory to one file, in place of what is there. A stack's memory is kept by the stack.

        Raises VirtualMemoryDisabled, OSError.
        """
        if self._vm is None or not isinstance(self._memory, ProcessMemory):
            raise VirtualMemoryDisabled
        self._vm.save(path, {"first_segment_id": self._memory.first_segment_id, "system_prompt": self._system_prompt})

    @classmethod
    def load(cls, path: Path | str, **settings: Any) -> "SessionManager":  # noqa: ANN401 - the constructor's
        """The conversation in a file that `save` wrote, which goes on where it stopped.

        `settings` are those of the constructor that say nothing of the memory, such as `infinite_context` or another
        `system_prompt`, and `vm_compressor_registry`. Raises OSError, SavedMemoryUnreadable, and InvalidArgument for a
        setting that the file has.
        """
        for name in settings.keys() & OF_THE_FILE:
            raise InvalidArgument(name, "is in the file: load without it")
        registry = settings.pop("vm_compressor_registry", None)
        saved = saved_file.read(Path(path))
        given = {"system_prompt": saved.beside.get("system_prompt"), **settings}
        loaded = cls(saved.session_id, **given)
        loaded._vm = MemoryManager.of_saved(saved, compressor_registry=registry)
        loaded._default_model = settings.get("default_model", loaded._vm.session.config.model)
        loaded._tokens = for_model(loaded._default_model)
        loaded._memory = ProcessMemory(loaded._vm, str(saved.beside.get("first_segment_id") or saved.session_id))
        return loaded

    # What was said

    async def get_conversation(
        self,
        include_all_segments: bool | None = None,  # noqa: FBT001 - as above
    ) -> list[dict[str, Any]]:
        """Messages with their time, oldest first: of all segments when the conversation is infinite, unless told."""
        await self._memory.open()
        every = self._infinite_context if include_all_segments is None else include_all_segments
        return [
            {**bare, "timestamp": iso(said.spoken_unix_ms), "session_id": said.session_id, "page_id": said.page_id}
            for said in await self._memory.spoken(all_segments=every)
            for bare in _bare([said])
        ]

    async def get_session_chain(self) -> list[str]:
        """The segments' session ids, oldest first."""
        await self._memory.open()
        return list((await self._memory.totals(all_segments=True)).segments)

    async def load_session_chain(self) -> None:
        """Read where the conversation stands before anything is asked of it; every other call does so too."""
        await self._memory.open()

    async def get_stats(
        self,
        include_all_segments: bool | None = None,  # noqa: FBT001 - as above
    ) -> SessionStats:
        """Return the conversation's figures, over all segments or the current one."""
        await self._memory.open()
        totals = await self._memory.totals(all_segments=include_all_segments is not False)
        by_role = totals.messages_by_role
        user, ai, tools = (by_role.get(role, 0) for role in (MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL))
        return SessionStats(
            session_id=self.session_id,
            session_segments=totals.segment_count,
            session_chain=list(totals.segments),
            total_messages=user + ai,
            total_events=user + ai + tools,
            user_messages=user,
            ai_messages=ai,
            tool_calls=tools,
            total_tokens=totals.tokens,
            created_at=iso(totals.created_unix_ms),
            last_update=iso(totals.updated_unix_ms),
            infinite_context=self._infinite_context,
        )

    async def _answer(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        return await (await self._pages()).answer(calls)

    async def _pages(self) -> PagedMemory:
        if not isinstance(self._memory, PagedMemory):
            raise VirtualMemoryDisabled
        await self._memory.open()
        return self._memory

    async def _append(self, role: MessageRole, text: str, metadata: Mapping[str, object]) -> None:
        await self._memory.open()
        if self._infinite_context:
            await self._end_segment_when_full()
        await self._memory.append(_utterance(role, text, metadata))

    async def _end_segment_when_full(self) -> None:
        size = await self._memory.segment_size()
        if size.tokens < self._token_threshold and size.messages < self._max_turns_per_segment:
            return
        said = await self._memory.spoken(all_segments=False)
        if said:
            await self._memory.end_segment(await self._summarizer(_bare(said)), [message.page_id for message in said])

    async def _extract(self, messages: list[dict[str, str]]) -> str:
        return summarize(messages, self._strategy, self._count)

    def _count(self, text: str) -> int:
        return self._tokens.counted_by_model(self._tokens.tokenizer.count(text))


def refuse_settings(**settings: object) -> None:
    """Refuse settings of a virtual memory where there is none. Raises InvalidArgument."""
    for name, value in settings.items():
        if value is not None:
            raise InvalidArgument(name, "is for a virtual memory: add enable_vm=True, or a client, or leave it out")


def stack_config(
    model: str, mode: VMMode, config: WorkingSetConfig | None, eviction_policy: str | None
) -> dict[str, Any]:
    """The same settings as fields of SessionConfig."""
    settings: dict[str, Any] = {"model": model, "mode": f"VM_MODE_{mode.name}"}
    if config is not None:
        given = SAME_IN_A_STACK & config.model_fields_set
        settings |= {name: getattr(config, name) for name in given}
    return settings if eviction_policy is None else {**settings, "eviction_policy": eviction_policy}


def iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1_000, UTC).isoformat()


def _utterance(role: MessageRole, text: str, metadata: Mapping[str, object], tool_name: str = "") -> Utterance:
    facts = {whole_text(key): whole_text(str(value)) for key, value in metadata.items()}
    return Utterance(role, text, IMPORTANCE[role], tool_name, facts)


def _bare(spoken: Sequence[Spoken]) -> list[dict[str, str]]:
    """As a chat model takes messages."""
    return [{"role": said.role.value, "content": said.text} for said in spoken]
