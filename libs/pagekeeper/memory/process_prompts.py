"""Prompts of a session in this process: what a stack's gateway makes of what its working set says is resident.

The lines of pages, and their tokens, are kept from one prompt to the next: see `shown_residents`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.assembly import AssembledChat, ChatLimits, ChatMessage, ChatParts, assemble_chat
from pagekeeper.core.demand_paging import RecalledPages, RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.offering import Offering, input_page_id, words_page_id
from pagekeeper.core.packing import attributed
from pagekeeper.core.pages import MessageRole, PageState
from pagekeeper.core.prompt_parts import AVAILABLE_PAGES_MAX, chat_limits, fault_policies
from pagekeeper.core.session import Session
from pagekeeper.core.tools import get_vm_tools_as_dicts
from pagekeeper.memory.process_session import ProcessSession
from pagekeeper.memory.shown_residents import ShownResidents
from pagekeeper.runtime.tokens import MESSAGE_TOKENS, REPLY_TOKENS, ModelTokens, count_tools, for_model

_TOOLS: Final = get_vm_tools_as_dicts()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request that fits, the model that counts it, and the mode whose rules it has."""

    chat: AssembledChat
    model: ModelTokens
    mode: ev.VMMode

    @property
    def total_tokens(self) -> int:
        return self.model.counted_by_model(self.chat.tokens.total)


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """The settings of a prompt; zeros and None stand for the session's. The model is to answer `user_input`."""

    user_input: str = ""
    system_prompt: str = ""
    model: str = ""
    budget_tokens: int = 0
    reserve_tokens: int = 0
    mode: ev.VMMode | None = None
    demand_paging: ev.DemandPaging | None = None
    extra_tools: tuple[Mapping[str, Any], ...] = ()
    words_in_context: bool = False
    """Whether the user's last words stand in the context as any other page does, instead of being the input."""


class ProcessPrompts:
    """Makes the prompts of one session."""

    def __init__(self, process: ProcessSession) -> None:
        self._process = process
        self._shown: dict[str, ShownResidents] = {}
        """By family of models."""
        self._developer: ChatMessage | None = None

    def assemble(self, request: PromptRequest) -> Prompt:
        """Raises BudgetTooSmall, with the tokens that are needed."""
        session, config = self._process.session, self._process.session.config
        shown = self._shown_for(request.model)
        model = shown.model
        paging = request.demand_paging or config.demand_paging
        mode = mode_for(paging, request.mode or config.mode)
        tools = (*(() if mode is ev.VMMode.PASSIVE else _TOOLS), *request.extra_tools)
        limits = _limits(request, config, model, count_tools(shown.tokenizer, tools))
        user_input, words, input_id = self._spoken(request)
        shown.keep_up(held_out=input_id)
        context, faulted = shown.context, shown.faulted
        if shown.tokens > limits.budget_tokens:
            context, faulted = shown.with_lower_levels()
        offering = self._process.offering()
        recalled = RecalledPages((), 0)
        if paging is not ev.DemandPaging.MODEL:
            room = self._room(words, limits, shown, offering)
            if words and room.tokens():
                recalled = self._process.recall(words, room.tokens(), residents_placed=room.residents_placed)
            limits = replace(limits, recall_tokens_max=room.tokens(recalled.calls_before))
        parts = ChatParts(
            session_id=self._process.log.session_id,
            mode=mode,
            layout=config.layout,
            system_prompt=request.system_prompt,
            context=context,
            faulted=faulted,
            recalled=shown.recalled(_in_order(recalled)),
            utility={one.page.page_id: one.utility for one in recalled.pages},
            eviction_order=_EvictionOrder(session),
            available=shown.offered(offering.offered(AVAILABLE_PAGES_MAX)),
            policies=fault_policies(
                config,
                mode,
                faults_this_turn=session.counters.faults_this_turn,
                fault_tokens_this_turn=session.counters.fault_tokens_this_turn,
            ),
            pressure=session.pressure(),
            user_input=user_input,
            tools=tools,
            instructions_role=model.instructions_role,
        )
        try:
            chat = assemble_chat(parts, limits, shown.tokenizer.count, self._developer)
        except BudgetTooSmall as small:
            needed = model.counted_by_model(small.needed_tokens) + request.reserve_tokens
            raise BudgetTooSmall(request.budget_tokens or config.max_l0_tokens, needed) from small
        self._developer = chat.messages[0]
        return Prompt(chat, model, mode)

    def _spoken(self, request: PromptRequest) -> tuple[str, str, str]:
        """Return the input to answer, the words that the turn is about, and the page that is shown as the input."""
        input_id, words_id = input_page_id(self._process.session), words_page_id(self._process.session)
        user_input = request.user_input
        if request.words_in_context:
            return (
                user_input,
                user_input or (self._process.text(self._process.session.pages[words_id]) if words_id else ""),
                "",
            )
        if not user_input or (input_id and self._process.text(self._process.session.pages[input_id]) == user_input):
            said = (
                self._process.text(self._process.session.pages[input_id]) if input_id else self._too_large_for_a_page()
            )
            shown = self._process.session.pages[input_id].current if input_id else None
            return (
                attributed(said, shown.speaker, shown.said_unix_ms) if shown else said,
                said or (self._process.text(self._process.session.pages[words_id]) if words_id else ""),
                input_id,
            )
        return user_input, user_input, ""

    def _too_large_for_a_page(self) -> str:
        """The user's words of this turn that found no room among the residents, when nothing has come after them.

        A prompt holds them, or is refused with the tokens that it would take: it is never without a question.
        """
        for transaction in reversed(self._process.log.transactions):
            for event in reversed(transaction.events):
                if isinstance(event, ev.WorkingSetRestored):
                    return ""
                if isinstance(event, ev.PagesMapped):
                    page = self._process.session.page(event.pages[-1].page_id)
                    said = (
                        page is not None
                        and page.role is MessageRole.USER
                        and page.current.turn == self._process.session.turn
                    )
                    return (
                        self._process.text(page)
                        if page and said and page.page_id not in self._process.session.working_set
                        else ""
                    )
        return ""

    def _room(self, words: str, limits: ChatLimits, shown: ShownResidents, offering: Offering) -> RecallRoom:
        return room_for(
            words,
            self._process.session.config,
            budget_tokens=limits.budget_tokens,
            tools_tokens=limits.tools_tokens,
            resident_tokens=shown.tokens,
            everything_shown=not offering.offered_total and not shown.lowered_total,
        )

    def _shown_for(self, model: str) -> ShownResidents:
        own = self._process.tokens
        tokens = own if not model or self._process.counts_for_itself else for_model(model)
        shown = self._shown.get(tokens.family)
        if shown is None:
            recount = tokens.tokenizer.name != own.tokenizer.name
            shown = self._shown[tokens.family] = ShownResidents(self._process.log, tokens, recount=recount)
        return shown


def _in_order(recalled: RecalledPages) -> list[PageState]:
    """The pages that are not resident, in the conversation's order."""
    pages = [one.page for one in recalled.pages if not one.resident]
    return sorted(pages, key=lambda page: (page.current.turn, page.current.revision))


class _EvictionOrder(Sequence[str]):
    """The pages that nothing protects, the first to go first: ranked when a budget asks, which most never do."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._order: list[str] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranked())

    def __len__(self) -> int:
        return len(self._ranked())

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a position or a slice, as a list takes them
        return self._ranked()[index]

    def _ranked(self) -> list[str]:
        if self._order is None:
            self._order = [resident.page_id for resident in self._session.unprotected()]
        return self._order


def _limits(request: PromptRequest, config: ev.SessionConfig, model: ModelTokens, tools_tokens: int) -> ChatLimits:
    budget = request.budget_tokens or config.max_l0_tokens
    if request.reserve_tokens >= budget:
        raise BudgetTooSmall(budget, request.reserve_tokens + 1)
    return chat_limits(
        model.countable(budget - request.reserve_tokens),
        tools_tokens=tools_tokens,
        message_frame_tokens=MESSAGE_TOKENS,
        reply_frame_tokens=REPLY_TOKENS,
    )
