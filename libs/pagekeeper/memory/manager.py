"""The memory of one session in this process, by the guide's names: messages, pages, requests, and a model's calls.

It is a `Session` of the core, folded from the events that the core's decisions make, and decides what a stack decides:
which pages are resident, which leave, what a prompt shows and what a call is answered. What it holds beside the session
is what an application says of its pages that no decision reads; everything else is a view.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pagekeeper.core import decisions
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.errors import (
    CheckpointNotFound,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
)
from pagekeeper.core.escape import compact_json
from pagekeeper.core.pages import PageState
from pagekeeper.core.search import SearchFilter
from pagekeeper.core.session_settings import checked as checked_settings
from pagekeeper.core.tools import (
    FaultEffects,
    PageFaultCall,
    SearchPagesCall,
    ToolCallProblem,
    parse_tool_call,
    render_problem,
    render_search_result,
    render_tool_result,
)
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory import saved_file
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.artifacts_bridge import ArtifactsBridge
from pagekeeper.memory.chat_response import ChatMessage, Completion, ToolCall, answered, tool_message
from pagekeeper.memory.compressor import CompressorRegistry
from pagekeeper.memory.eviction_policy import EvictionPolicy, policy_name
from pagekeeper.memory.manifest import VMManifest
from pagekeeper.memory.models import (
    DemandPagingMode,
    FaultPolicy,
    FaultReason,
    MemoryManagerStats,
    MemoryPage,
    MessageRole,
    Modality,
    PageType,
    VMContext,
    VMMode,
)
from pagekeeper.memory.pager import REFUSALS, Pager
from pagekeeper.memory.process_prompts import Prompt, PromptRequest
from pagekeeper.memory.request_views import manifest_of, packed_of
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.memory.session_memory import IMPORTANCE
from pagekeeper.memory.shown import shown
from pagekeeper.memory.shown_pages import piece_for_a_model, shown_to_a_model
from pagekeeper.memory.working_set import WorkingSetConfig, session_config
from pagekeeper.runtime.clock import SystemClock

__all__ = ["MemoryManager", "event_to_page"]

DEFAULT_MODEL: Final = "gpt-4o"
_CLOCK: Final = SystemClock()
_CITATION: Final = re.compile(r"\[ref:\s*([^\]]+)\]")


@checked
def event_to_page(
    message: str,
    role: str,
    session_id: str,
    event_id: str | None = None,
    page_type: PageType = PageType.TRANSCRIPT,
    importance: float = 0.5,
) -> MemoryPage:
    """A page of something that was said; `event_id` is a whole part of its id, so two events are two pages."""
    return MemoryPage(
        page_id=f"msg_{event_id or uuid4().hex}",
        session_id=session_id,
        content=message,
        page_type=page_type,
        importance=importance,
        metadata={"role": role},
    )


@checked
class MemoryManager(Pager):
    """Tokens are counted as `model` counts them, or by `count` where one is given.

    Pages are shortened before they leave, by the core's compressors or by those in `compressor_registry`. With
    `storage`, checkpoints are kept there too, and another process restores them.
    """

    def __init__(  # noqa: PLR0913 - the guide's collaborators
        self,
        session_id: str = "",
        config: WorkingSetConfig | None = None,
        fault_policy: FaultPolicy | None = None,
        mode: VMMode = VMMode.STRICT,
        eviction_policy: EvictionPolicy | str | None = None,
        compressor_registry: CompressorRegistry | None = None,
        *,
        storage: ArtifactsBridge | None = None,
        count: Callable[[str], int] | None = None,
        demand_paging: DemandPagingMode = DemandPagingMode.HYBRID,
        model: str = DEFAULT_MODEL,
        log: SessionLog | None = None,
    ) -> None:
        """`eviction_policy` is one of the core's, by its name or as an object. `log` is a session that goes on.

        Raises InvalidField for settings that a session cannot have.
        """
        config, faults = config or WorkingSetConfig(), fault_policy or FaultPolicy()
        if log is None:
            settings = replace(
                session_config(config),
                max_faults_per_turn=faults.max_faults_per_turn,
                max_fault_tokens_per_turn=faults.max_fault_tokens_per_turn,
                mode=mode,
                model=model,
                demand_paging=demand_paging,
            )
            if eviction_policy is not None:
                settings = replace(settings, eviction_policy=policy_name(eviction_policy))
            log = SessionLog.opened(session_id or str(uuid4()), _CLOCK.now_ms, checked_settings(settings))
        super().__init__(log, config, faults, compressor_registry, storage, count)

    def __repr__(self) -> str:
        mapped, resident = self.session.pages.mapped_total, len(self.session.working_set)
        return (
            f"{type(self).__name__}(session_id={shown(self.session_id)}, {mapped:,} pages, {resident:,} in the prompt)"
        )

    @property
    def mode(self) -> VMMode:
        return self._log.session.config.mode

    # Messages and turns

    async def add_message(
        self,
        role: MessageRole,
        content: str,
        *,
        importance: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        tool_name: str | None = None,
    ) -> MemoryPage:
        """A message as a page of the prompt; what a tool did is an artifact, and data when it is JSON.

        A user's message begins a turn. One that is larger than the prompt is a page, and not in the prompt: its
        `storage_tier` says so.
        """
        role = MessageRole(role)
        tool = role is MessageRole.TOOL
        page = MemoryPage(
            page_id="",
            content=content,
            page_type=PageType.ARTIFACT if tool else PageType.TRANSCRIPT,
            modality=Modality.STRUCTURED if tool and compact_json(content) is not None else Modality.TEXT,
            importance=IMPORTANCE[role] if importance is None else importance,
            metadata={**(metadata or {}), "role": role.value},
        )
        added = self._mapped(page, tool_name=tool_name)
        await self._compress_by_own()
        return added

    async def add_user_message(self, content: str) -> MemoryPage:
        return await self.add_message(MessageRole.USER, content)

    async def add_assistant_message(self, content: str) -> MemoryPage:
        self.note_citations(content)
        return await self.add_message(MessageRole.ASSISTANT, content)

    def note_citations(self, answer: str) -> None:
        """The pages that a model's answer cites, as the rules ask it to, were used: `[ref: p3]`, `[ref: p3, p7]`."""
        named = [page_id for group in _CITATION.findall(answer) for page_id in re.split(r"[,\s]+", group.strip())]
        self.note_use(named)

    def new_turn(self) -> None:
        """Begin a turn, which the user's next words, or whatever comes before them, are the first of."""
        self.begin_turn()

    def update_session_id(self, session_id: str) -> None:
        """Go on under another id, with the same pages."""
        self._log.session_id = session_id

    # Requests

    async def add_page(self, text: str, **facts: Any) -> PageState:  # noqa: ANN401 - those of `page_to_map`
        """A page that no turn begins with, and facts of it that a `MemoryPage` does not have."""
        text = whole_text(text)
        page = page_to_map("", self._log.stored(text.encode()), text, **facts)
        self._begin_due_turn()
        [state] = self._process.append(NewPage(page, new_version=False))
        await self._compress_by_own()
        return self._log.session.pages[state.page_id]

    def text_of(self, page: PageState) -> str:
        """Return the text of a page, word for word."""
        return self._process.text(page)

    def assemble(self, request: PromptRequest) -> Prompt:
        """A request to a model that fits its budget. Raises BudgetTooSmall, with the tokens that are needed."""
        self._begin_due_turn()
        prompt = self._prompts.assemble(request)
        self.note_use([line.page_id for line in prompt.chat.recalled])
        return prompt

    def build_context(
        self,
        mode: VMMode | None = None,
        system_prompt: str = "",
        model_id: str = "",
        token_budget: int | None = None,
        *,
        user_input: str = "",
    ) -> VMContext:
        """The parts of a request: the developer's message, its tools, what it lists and what it shows.

        `token_budget` bounds the whole request, in place of the session's. Raises BudgetTooSmall.
        """
        request = PromptRequest(
            user_input, system_prompt, model_id, token_budget or 0, mode=mode, words_in_context=True
        )
        prompt = self.assemble(request)
        return VMContext(
            developer_message=prompt.chat.messages[0].content,
            tools=list(prompt.chat.tools),
            manifest=manifest_of(self._process, prompt),
            packed_context=packed_of(prompt),
        )

    def build_manifest(self, mode: VMMode | None = None) -> VMManifest:
        """List the pages that a prompt shows and those that a fault would bring; the rest is counted."""
        return manifest_of(self._process, self.assemble(PromptRequest(mode=mode, words_in_context=True)))

    def build_request(self, user_input: str, model: str = "", system_prompt: str = "") -> dict[str, Any]:
        """A request to Chat Completions that fits. When `user_input` was added as a page, it is not shown twice.

        Raises BudgetTooSmall.
        """
        prompt = self.assemble(PromptRequest(user_input, system_prompt, model))
        messages = [{"role": message.role, "content": message.content} for message in prompt.chat.messages]
        request: dict[str, Any] = {"model": model or self._log.session.config.model, "messages": messages}
        return {**request, "tools": list(prompt.chat.tools)} if prompt.chat.tools else request

    # Answers

    async def process_response(self, response: Completion | Mapping[str, Any]) -> dict[str, Any] | str:
        """The model's answer; or, when it called tools, what the next request has to say more.

        That is `assistant_message`, which called them, and `tool_results`, which answer the calls to the memory.
        Calls to the application's own tools are left to it, under `tool_calls`.
        """
        return await answered(response, self.answer_tool_calls)

    async def answer_tool_calls(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        """The messages that answer calls, in order. Whatever is wrong with a call is in its answer, for the model."""
        return [tool_message(call, self._answer(call)) for call in calls]

    def _answer(self, call: ToolCall) -> str:
        match parse_tool_call(call.name, call.arguments, self._log.session.pages):
            case ToolCallProblem() as problem:
                return render_problem(problem)
            case SearchPagesCall() as search:
                return self._found(search)
            case PageFaultCall() as fault:
                return self._faulted_for_a_model(fault)

    # Saving

    async def checkpoint(self, name: str) -> str:
        """Name the present state; the answer is the checkpoint's id. With a storage, another process can restore it."""
        checkpoint_id = f"checkpoint_{uuid4().hex[:12]}"
        self._log.commit(decisions.create_checkpoint(self.session, checkpoint_id, name))
        if self._stored_elsewhere:
            return await self._storage.store_state(checkpoint_id, name, saved_file.to_bytes(self._saved({})))
        return checkpoint_id

    def list_checkpoints(self) -> list[str]:
        """Ids of the session's own, oldest first."""
        return list(self.session.checkpoints)

    async def restore_checkpoint(self, checkpoint_id: str) -> list[MemoryPage]:
        """Be what the session was: what was said later is gone from prompt, search and table. The answer: the prompt.

        A checkpoint that this session does not know is read from the storage, and the session goes on from there.
        Raises CheckpointNotFound, SavedMemoryUnreadable.
        """
        if checkpoint_id not in self.session.checkpoints:
            data = await self._storage.load_state(checkpoint_id)
            if data is None:
                raise CheckpointNotFound(checkpoint_id)
            saved = saved_file.from_bytes(data, f"checkpoint {checkpoint_id!r}")
            self._go_on_from(saved)
            return self.get_l0_pages()
        self._process.restore(checkpoint_id)
        self._used_this_turn.clear()
        return self.get_l0_pages()

    def save(self, path: Path | str, beside: Mapping[str, Any] | None = None) -> None:
        """Write the whole memory to one file, in place of what is there. Raises OSError."""
        saved_file.write(Path(path), self._saved(beside or {}))

    @classmethod
    def load(cls, path: Path | str, **settings: Any) -> "MemoryManager":  # noqa: ANN401 - collaborators of the constructor
        """The memory in a file that `save` wrote, which goes on where it stopped.

        `settings` are collaborators that a file cannot hold: `compressor_registry`, `storage`, `count`.
        Raises OSError, SavedMemoryUnreadable.
        """
        return cls.of_saved(saved_file.read(Path(path)), **settings)

    @classmethod
    def of_saved(cls, saved: saved_file.SavedMemory, **settings: Any) -> "MemoryManager":  # noqa: ANN401 - as above
        log = saved.folded(saved.session_id, _CLOCK.now_ms)
        config = log.session.config
        memory = cls(
            fault_policy=FaultPolicy(
                max_faults_per_turn=config.max_faults_per_turn,
                max_fault_tokens_per_turn=config.max_fault_tokens_per_turn,
            ),
            log=log,
            **settings,
        )
        memory._application.beside = dict(saved.beside.get("pages", {}))
        return memory

    # Looking inside

    def get_stats(self) -> MemoryManagerStats:
        session = self.session
        return MemoryManagerStats(
            session_id=self.session_id,
            turn=session.turn,
            mode=session.config.mode.value,
            page_table=self.page_table.get_stats(),
            working_set=self.working_set.get_stats(),
            fault_handler=self.fault_metrics(),
            mutation_log=self.mutation_log.get_stats(),
            prefetcher=self._prefetcher.get_stats(),
            metrics=self.metrics,
            pages_in_store=session.pages.mapped_total,
        )

    # Underneath

    def _saved(self, beside: Mapping[str, Any]) -> saved_file.SavedMemory:
        self._begin_due_turn()
        log = self._log
        pages = json.loads(json.dumps(self._application.beside, default=str))
        return saved_file.SavedMemory(log.session_id, log.transactions, log.contents, {**beside, "pages": pages})

    def _go_on_from(self, saved: saved_file.SavedMemory) -> None:
        """Be the session that was saved, under the present id, with the present collaborators."""
        registry = self._own_compressors
        log = saved.folded(self.session_id, _CLOCK.now_ms)
        storage, stored_elsewhere = self._storage, self._stored_elsewhere
        Pager.__init__(self, log, self.working_set.config, self._fault_policy, registry, storage, self._own_count)
        self._stored_elsewhere = stored_elsewhere
        self._application.beside = dict(saved.beside.get("pages", {}))

    def _found(self, call: SearchPagesCall) -> str:
        self._begin_due_turn()
        where = SearchFilter(modality=call.modality)
        return render_search_result(self._process.search(call.query, call.limit, where), self._process.searched(where))

    def _faulted_for_a_model(self, call: PageFaultCall) -> str:
        try:
            if call.offset is not None:
                return piece_for_a_model(self._process, call, call.offset)
            try:
                faulted = self.fault(call.page_id, call.target_level, FaultReason.RESOLVE_REFERENCE)
            except (LevelUnavailable, FaultTokensExceeded) as refused:
                return piece_for_a_model(self._process, call, 0, refused)
        except (*REFUSALS, InvalidField) as refused:
            return render_problem(ToolCallProblem.from_refusal(refused, call.page_id))
        representation = faulted.representation
        shown = shown_to_a_model(self._process, faulted.page, representation.level, faulted.source_tier)
        effects = FaultEffects(faulted.promoted, representation.size_tokens, faulted.evicted)
        return render_tool_result(shown, effects)
