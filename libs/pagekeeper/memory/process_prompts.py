"""Prompts of a session in this process: what a stack's gateway makes of what its working set says is resident.

The lines of pages, and their tokens, are kept from one prompt to the next: see `shown_residents`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.assembly import AssembledChat, ChatMessage, assemble_chat
from pagekeeper.core.chat_parts import ChatLimits, ChatParts
from pagekeeper.core.demand_paging import RecalledPages, RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.last_words import LastWords, words_of_medium, words_to_answer
from pagekeeper.core.offering import Offering, SaidLast, said_last
from pagekeeper.core.pages import CompressionLevel, PageState
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
        shown, config = self._shown_for(request.model), self._process.session.config
        mode = mode_for(request.demand_paging or config.demand_paging, request.mode or config.mode)
        tools = (*(() if mode is ev.VMMode.PASSIVE else _TOOLS), *request.extra_tools)
        last = said_last(self._process.session, self._process.offering().last_message)
        said = self._words(last) if last is not None else None
        words = LastWords(request.user_input)
        if last is not None and not request.words_in_context:
            words = words_to_answer(request.user_input, said, is_input=last.is_input, in_context=last.in_context)
        chat = self._assembled(request, shown, mode, tools, said, words)
        if said is not None and not words.text and said.page_id in {*chat.omitted, *chat.lowered}:
            # The context has no room for the question, so the prompt ends with it.
            chat = self._assembled(request, shown, mode, tools, said, said)
        self._developer = chat.messages[0]
        return Prompt(chat, shown.model, mode)

    def _words(self, last: SaidLast) -> LastWords:
        """The page's words, as the last ones of a prompt: of a medium in the context what its line there says."""
        page, version = last.page, last.page.current
        resident = self._process.session.working_set.get(page.page_id)
        level = resident.level if resident is not None and last.in_context else CompressionLevel.FULL
        text = self._process.text(page) if version.media is None else words_of_medium(self._process.line(page, level))
        return LastWords.of_page(page.page_id, text, version.speaker, version.said_unix_ms)

    def _assembled(
        self,
        request: PromptRequest,
        shown: ShownResidents,
        mode: ev.VMMode,
        tools: Sequence[Mapping[str, Any]],
        said: LastWords | None,
        words: LastWords,
    ) -> AssembledChat:
        """Raises BudgetTooSmall. `said` is what the user said last, `words` what the prompt ends with."""
        session, config, model = self._process.session, self._process.session.config, shown.model
        limits = _limits(request, config, model, count_tools(shown.tokenizer, tools))
        shown.keep_up(held_out=words.page_id)
        context, faulted = shown.context, shown.faulted
        if shown.tokens > limits.budget_tokens:
            context, faulted = shown.with_lower_levels()
        offering = self._process.offering()
        recalled = RecalledPages((), 0)
        if (request.demand_paging or config.demand_paging) is not ev.DemandPaging.MODEL:
            asked = (words if words.text or said is None else said).for_recall
            room = self._room(asked, limits, shown, offering)
            if asked and room.tokens():
                recalled = self._process.recall(asked, room.tokens(), residents_placed=room.residents_placed)
            limits = replace(limits, recall_tokens_max=room.tokens(recalled.calls_before))
        (entry,) = shown.offered([words.page_id]) if words.page_id else (None,)
        parts = ChatParts(
            session_id=self._process.log.session_id,
            mode=mode,
            layout=config.layout,
            system_prompt=request.system_prompt,
            context=context,
            faulted=faulted,
            recalled=shown.recalled(_in_order(recalled, words.page_id)),
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
            user_input=words.text,
            input_entry=entry,
            input_attribution=words.attribution,
            tools=tools,
            instructions_role=model.instructions_role,
        )
        try:
            return assemble_chat(parts, limits, shown.tokenizer.count, self._developer)
        except BudgetTooSmall as small:
            needed = model.counted_by_model(small.needed_tokens) + request.reserve_tokens
            raise BudgetTooSmall(request.budget_tokens or config.max_l0_tokens, needed) from small

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


def _in_order(recalled: RecalledPages, held_out: str) -> list[PageState]:
    """The pages that are not resident, in the conversation's order, without the one that is shown as the input."""
    pages = [one.page for one in recalled.pages if not one.resident and one.page.page_id != held_out]
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
