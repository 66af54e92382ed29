"""The memory of one session in this process: messages become pages, pages a request, and a model's calls are answered.

It speaks both of the guide's vocabularies: that of the manager which the guide has its reader write, and that of the
one which its SessionManager makes. Pages themselves are the business of `Pager`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal
from uuid import uuid4

from pagekeeper.core.escape import compact_json
from pagekeeper.core.tools import PageFaultCall, SearchPagesCall, ToolCallProblem, parse_tool_call, render_problem
from pagekeeper.memory.artifacts_bridge import ArtifactsBridge
from pagekeeper.memory.chat_response import (
    ChatMessage,
    ChatResponse,
    ToolCall,
    assistant_message,
    message_of,
    tool_calls_of,
    tool_message,
)
from pagekeeper.memory.compressor import CompressorRegistry
from pagekeeper.memory.context_packer import PackedContext
from pagekeeper.memory.demand_paging import DemandPagingMode
from pagekeeper.memory.eviction_policy import EvictionPolicy
from pagekeeper.memory.manifest import ManifestBuilder, ManifestPolicies, VMManifest, generate_simple_hint
from pagekeeper.memory.models import (
    FaultPolicy,
    FaultReason,
    MemoryManagerStats,
    MemoryPage,
    MessageRole,
    Modality,
    PageTableEntry,
    PageType,
    VMContext,
    VMMode,
)
from pagekeeper.memory.pack_cache import ContextPackCache
from pagekeeper.memory.pager import Pager
from pagekeeper.memory.tokens import estimated_tokens
from pagekeeper.memory.vm_prompts import build_vm_developer_message, get_vm_tools_as_dicts
from pagekeeper.memory.working_set import WorkingSetConfig

__all__ = ["MemoryManager", "event_to_page"]

IMPORTANCE: Final = {
    MessageRole.SYSTEM: 1.0,
    MessageRole.USER: 0.6,
    MessageRole.ASSISTANT: 0.5,
    MessageRole.TOOL: 0.4,
}
"""Of a message when nobody says: the user's words are wanted again more often than what answered them."""
DEFAULT_MODEL: Final = "gpt-4o"
MANIFEST_SHARE: Final = 0.5
"""What the manifest may take of the tokens that are reserved beside the pages, ..."""
MANIFEST_TOKENS_MIN: Final = 256
"""... and what it may take in any case."""


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


class MemoryManager(Pager):
    """`count` says how many tokens a text has; four characters are taken for one when no tokenizer is given.

    Pages are shortened before they are evicted when there is a `compressor_registry`. Without `storage`, evicted pages
    are kept in this process.
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
        count: Callable[[str], int] = estimated_tokens,
        demand_paging: DemandPagingMode = DemandPagingMode.HYBRID,
    ) -> None:
        """`eviction_policy` may be the name of one of the core's, such as `importance-lru/1`."""
        super().__init__(
            session_id,
            config,
            fault_policy,
            eviction_policy,
            compressor_registry,
            storage=storage,
            count=count,
            demand_paging=demand_paging,
        )
        self._mode = mode
        self._demand_paging = demand_paging
        self._pack_cache = ContextPackCache()
        self._messages = 0

    @property
    def mode(self) -> VMMode:
        return self._mode

    # Messages and turns

    async def add_message(
        self,
        role: MessageRole,
        content: str,
        *,
        importance: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> MemoryPage:
        """A message as a page of the prompt; what a tool did is an artifact, and data when it is JSON.

        A message that is larger than the prompt is at hand, and not in it: its `storage_tier` says so.
        """
        tool = role is MessageRole.TOOL
        page = self.create_page(
            content,
            page_type=PageType.ARTIFACT if tool else PageType.TRANSCRIPT,
            modality=Modality.STRUCTURED if tool and compact_json(content) is not None else Modality.TEXT,
            importance=IMPORTANCE[role] if importance is None else importance,
            page_id=self._next_message_id(),
            metadata={**(metadata or {}), "role": role.value},
        )
        await self.add_to_working_set(page)
        return page

    async def add_user_message(self, content: str) -> MemoryPage:
        return await self.add_message(MessageRole.USER, content)

    async def add_assistant_message(self, content: str) -> MemoryPage:
        return await self.add_message(MessageRole.ASSISTANT, content)

    def new_turn(self) -> None:
        """Begin a turn: the model has its faults again, and pages are a turn older."""
        self._working_set.new_turn()
        self._fault_handler.new_turn()
        self._mutation_log.record_context_at_turn(self.turn, self._working_set.get_l0_page_ids())

    def update_session_id(self, session_id: str) -> None:
        """Go on under another id, with the same pages."""
        self._session_id = session_id

    # Requests

    def build_context(
        self,
        mode: VMMode | None = None,
        system_prompt: str = "",
        model_id: str = "",
        token_budget: int | None = None,
        *,
        without: Collection[str] = (),
    ) -> VMContext:
        """What a model is sent of the memory. Pages in `without` are in the prompt by other means, as messages.

        With `token_budget`, pages that find no room in it are left out, those missed least first.
        """
        mode = mode or self._mode
        manifest = self.build_manifest(mode)
        packed = self._packed(model_id, token_budget, without)
        return VMContext(
            developer_message=build_vm_developer_message(
                mode=mode,
                manifest_json=manifest.model_dump_json(),
                context=packed.content,
                system_prompt=system_prompt,
            ),
            tools=get_vm_tools_as_dicts() if self._has_tools(mode) else [],
            manifest=manifest,
            packed_context=packed,
        )

    def build_manifest(self, mode: VMMode) -> VMManifest:
        """What the prompt shows, and what a fault would bring; what finds no room in it is counted."""
        l0_pages = self.get_l0_pages()
        policy = self._fault_policy
        policies = ManifestPolicies(
            faults_allowed=self._has_tools(mode),
            max_faults_per_turn=policy.max_faults_per_turn,
            faults_remaining=policy.faults_remaining,
            upgrade_budget_tokens=policy.tokens_remaining,
        )
        builder = ManifestBuilder(
            session_id=self._session_id,
            pressure=self._pressure(),
            count=self._count,
            max_tokens=max(MANIFEST_TOKENS_MIN, int(self._working_set.budget.reserved * MANIFEST_SHARE)),
        )
        return builder.build(
            page_table=self._page_table,
            working_set_ids=[page.page_id for page in l0_pages],
            working_set_importance={page.page_id: page.importance for page in l0_pages}
            | self._working_set.importance_overrides,
            hint_generator=self._hint,
            policies=policies,
        )

    def build_request(self, user_input: str, model: str = DEFAULT_MODEL, system_prompt: str = "") -> dict[str, Any]:
        """A request to Chat Completions. When `user_input` was added as the last message, it is not shown twice."""
        last = self.get_l0_pages()[-1:]
        said = {page.page_id for page in last if page.content == user_input}
        context = self.build_context(system_prompt=system_prompt, model_id=model, without=said)
        request: dict[str, Any] = {
            "model": model,
            "messages": [
                {"role": "developer", "content": context.developer_message},
                {"role": "user", "content": user_input},
            ],
        }
        return {**request, "tools": context.tools} if context.tools else request

    # Answers

    async def process_response(self, response: ChatResponse) -> dict[str, Any] | str:
        """The model's answer; or, when it called tools, what the next request has to say more.

        That is `assistant_message`, which called them, and `tool_results`, which answer.
        """
        message = message_of(response)
        calls = tool_calls_of(message)
        if not calls:
            return message.content or ""
        return {
            "assistant_message": assistant_message(message),
            "tool_results": [await self.answer_tool_call(call) for call in calls],
        }

    async def answer_tool_call(self, call: ToolCall) -> ChatMessage:
        """The message that answers a call. Whatever is wrong with the call is in it, for the model."""
        match parse_tool_call(call.name, call.arguments):
            case ToolCallProblem() as problem:
                return tool_message(call, render_problem(problem))
            case SearchPagesCall(query, modality, limit):
                found = await self.search_pages(query, modality, limit)
                return tool_message(call, found.model_dump_json())
            case PageFaultCall(page_id, target_level):
                return tool_message(call, await self._answer_to_fault(page_id, target_level))

    # Looking inside

    def get_stats(self) -> MemoryManagerStats:
        return MemoryManagerStats(
            session_id=self._session_id,
            turn=self.turn,
            mode=self._mode.value,
            page_table=self._page_table.get_stats(),
            working_set=self._working_set.get_stats(),
            fault_handler=self._fault_handler.get_metrics(),
            tlb=self._tlb.get_stats(),
            mutation_log=self._mutation_log.get_summary(),
            prefetcher=self._prefetcher.get_stats(),
            pack_cache=self._pack_cache.get_stats(),
            metrics=self.metrics,
            pages_in_store=len(self._pages),
        )

    async def _answer_to_fault(self, page_id: str, target_level: int) -> str:
        result, evicted = await self._fault(page_id, target_level, FaultReason.RESOLVE_REFERENCE)
        if result.page is not None:
            return self._fault_handler.build_tool_result(result, evicted).model_dump_json()
        entry = self._page_table.lookup(page_id)
        if entry is None:
            return render_problem(ToolCallProblem("page_not_found", f"{result.error}.", page_id))
        reason = "page_unavailable" if self._fault_handler.can_fault() else "fault_limit_reached"
        known = f"{result.error}. What it is about: {self._hint(entry)}"
        return render_problem(ToolCallProblem(reason, known, page_id))

    def _packed(self, model_id: str, token_budget: int | None, without: Collection[str]) -> PackedContext:
        pages = [page for page in self.get_l0_pages() if page.page_id not in without]
        missed_least = [] if token_budget is None else [i for i, _ in self._working_set.get_eviction_candidates()]
        states = [(page.page_id, page.compression_level, str(page.content)) for page in pages]
        shown = self._pack_cache.compute_working_set_hash([str(hash((*states, *missed_least)))])
        key = (self._session_id, model_id, token_budget or 0, shown)
        packed = self._pack_cache.get(*key)
        if packed is None:
            packed = self._packer.pack(pages, token_budget, missed_least)
            self._pack_cache.put(*key, packed)
        return packed

    def _has_tools(self, mode: VMMode) -> bool:
        return mode is not VMMode.PASSIVE and self._demand_paging.offers_tools

    def _hint(self, entry: PageTableEntry) -> str:
        known = self._page_hints.get(entry.page_id)
        return known or generate_simple_hint(self._pages.get(entry.page_id) or entry)

    def _pressure(self) -> Literal["low", "medium", "high"]:
        config = self._working_set.config
        if self._working_set.needs_eviction():
            return "high"
        return "medium" if self._working_set.utilization > config.target_utilization else "low"

    def _next_message_id(self) -> str:
        self._messages += 1
        return f"msg_{self._messages - 1:04d}"
