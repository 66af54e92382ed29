"""Prompts of a session in this process: what a stack's gateway makes of what its working set says is resident.

Tokens were counted when pages were said, so they are added up here, unless another model's tokenizer is asked for. The
lines of resident pages are kept from one prompt to the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.assembly import AssembledChat, ChatLimits, ChatMessage, ChatParts, PromptPage, assemble_chat
from pagekeeper.core.demand_paging import RecalledPages, RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.following import Following
from pagekeeper.core.lines import facts_of_version, page_line
from pagekeeper.core.manifest import ManifestLine
from pagekeeper.core.offering import Offering, SaidPositions, input_page_id, words_page_id
from pagekeeper.core.packing import ContextPage, PackedLine, attributed
from pagekeeper.core.pages import (
    MessageRole,
    PageState,
    StorageTier,
)
from pagekeeper.core.prompt_parts import AVAILABLE_PAGES_MAX, chat_limits, fault_policies, offered_line
from pagekeeper.core.session import Session
from pagekeeper.core.tools import get_vm_tools_as_dicts
from pagekeeper.core.working_set import Resident
from pagekeeper.memory.process_session import ProcessSession
from pagekeeper.runtime.tokens import (
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    ModelTokens,
    count_tools,
    for_model,
)

LINES_KEPT_MIN: Final = 256
"""Entries of pages that are kept beside those of the residents."""

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


@dataclass(slots=True)
class _Shown:
    """A resident page's entry in prompts, and what it was made of."""

    resident: Resident
    page: PageState
    prompt_page: PromptPage
    with_lower: PromptPage | None = None


@dataclass(slots=True)
class _Lines:
    """The entries of one session's pages as one model's tokenizer counts them."""

    model: ModelTokens
    recount: bool
    shown: dict[str, _Shown] = field(default_factory=dict)
    offered: dict[str, tuple[PageState, ManifestLine]] = field(default_factory=dict)


class ProcessPrompts:
    """Makes the prompts of one session."""

    def __init__(self, process: ProcessSession) -> None:
        self._process = process
        self._lines: dict[str, _Lines] = {}
        self._following, self._said = Following(), SaidPositions()
        self._developer: ChatMessage | None = None

    def assemble(self, request: PromptRequest) -> Prompt:
        """Raises BudgetTooSmall, with the tokens that are needed."""
        session, config = self._process.session, self._process.session.config
        lines = self._lines_for(request.model)
        model, count = lines.model, _remembering(lines.model)
        paging = request.demand_paging or config.demand_paging
        mode = mode_for(paging, request.mode or config.mode)
        tools = (*(() if mode is ev.VMMode.PASSIVE else _TOOLS), *request.extra_tools)
        limits = _limits(request, config, model, tools)
        user_input, words, input_id = self._spoken(request)
        self._said.keep_up(session, self._following.catch_up(session))
        residents = [
            self._shown(resident, lines, count)
            for resident in self._said.in_order(session)
            if resident.page_id != input_id
        ]
        resident_tokens = sum([shown.prompt_page.page.line.tokens for shown in residents])
        if resident_tokens > limits.budget_tokens:
            pages = [self._with_lower_levels(shown, lines, count) for shown in residents]
        else:
            pages = [shown.prompt_page for shown in residents]
        faulted = [shown.resident.faulted for shown in residents]
        offering = self._process.offering()
        recalled = RecalledPages((), 0)
        if paging is not ev.DemandPaging.MODEL:
            room = self._room(words, limits, resident_tokens, offering)
            if words and room.tokens():
                recalled = self._process.recall(words, room.tokens(), residents_placed=room.residents_placed)
            limits = replace(limits, recall_tokens_max=room.tokens(recalled.calls_before))
        parts = ChatParts(
            session_id=self._process.log.session_id,
            mode=mode,
            layout=config.layout,
            system_prompt=request.system_prompt,
            context=[page for page, came in zip(pages, faulted, strict=True) if not came],
            faulted=[page for page, came in zip(pages, faulted, strict=True) if came],
            recalled=self._recalled(recalled, lines, count),
            utility={one.page.page_id: one.utility for one in recalled.pages},
            eviction_order=_EvictionOrder(session),
            available=[self._offered(page_id, lines, count) for page_id in offering.offered(AVAILABLE_PAGES_MAX)],
            policies=fault_policies(
                config,
                mode,
                faults_this_turn=session.counters.faults_this_turn,
                fault_tokens_this_turn=session.counters.fault_tokens_this_turn,
            ),
            pressure=session.pressure(),
            user_input=user_input,
            tools=tools,
        )
        try:
            chat = assemble_chat(parts, limits, count, self._developer)
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

    def _room(self, words: str, limits: ChatLimits, resident_tokens: int, offering: Offering) -> RecallRoom:
        return room_for(
            words,
            self._process.session.config,
            budget_tokens=limits.budget_tokens,
            tools_tokens=limits.tools_tokens,
            resident_tokens=resident_tokens,
            everything_shown=not offering.offered_total
            and all(r.level == 0 for r in self._process.session.working_set),
        )

    def _lines_for(self, model: str) -> _Lines:
        own = self._process.tokens
        tokens = own if not model or self._process.counts_for_itself else for_model(model)
        lines = self._lines.get(tokens.family)
        if lines is None:
            lines = self._lines[tokens.family] = _Lines(tokens, recount=tokens.tokenizer.name != own.tokenizer.name)
        if len(lines.shown) > LINES_KEPT_MIN + 2 * len(self._process.session.working_set):
            lines.shown = {k: one for k, one in lines.shown.items() if k in self._process.session.working_set}
        if len(lines.offered) > LINES_KEPT_MIN:
            lines.offered.clear()
        return lines

    def _shown(self, resident: Resident, lines: _Lines, count: Callable[[str], int]) -> _Shown:
        page = self._process.session.pages.at_hand[resident.page_id]
        known = lines.shown.get(resident.page_id)
        if known is not None and known.resident is resident and (known.page is page or _same(known.page, page)):
            known.page = page
            return known
        line = self._line(page, resident.level, lines, count)
        prompt_page = PromptPage(
            page=ContextPage(line, mandatory=page.pinned),
            modality=page.modality,
            importance=page.importance,
            entry=offered_line(page, StorageTier.L0, self._process.session.config.layout, count),
        )
        shown = lines.shown[resident.page_id] = _Shown(resident, page, prompt_page)
        return shown

    def _line(self, page: PageState, level: int, lines: _Lines, count: Callable[[str], int]) -> PackedLine:
        representation = page.current.at(level)
        assert representation is not None, "a level that the page has"
        content = self._process.log.content(representation)
        text = page_line(facts_of_version(page, page.current), level, content, representation.preview_mime_type)
        return PackedLine(page.page_id, level, text, count(text) if lines.recount else representation.size_tokens)

    def _with_lower_levels(self, shown: _Shown, lines: _Lines, count: Callable[[str], int]) -> PromptPage:
        """The page with its lines at all lower levels, for a budget that has no room for all residents as they are."""
        if shown.with_lower is None:
            lower = [
                self._line(shown.page, representation.level, lines, count)
                for representation in shown.page.current.representations
                if representation.level > shown.resident.level
            ]
            page = shown.prompt_page
            shown.with_lower = replace(page, page=replace(page.page, lower=tuple(lower)))
        return shown.with_lower

    def _recalled(self, recalled: RecalledPages, lines: _Lines, count: Callable[[str], int]) -> list[PromptPage]:
        """The pages that are not resident, in the conversation's order."""
        pages = [one.page for one in recalled.pages if not one.resident]
        pages.sort(key=lambda page: (page.current.turn, page.current.revision))
        return [self._recalled_page(page, lines, count) for page in pages]

    def _recalled_page(self, page: PageState, lines: _Lines, count: Callable[[str], int]) -> PromptPage:
        levels = [self._line(page, one.level, lines, count) for one in page.current.representations]
        return PromptPage(
            page=ContextPage(levels[0], tuple(levels[1:])),
            modality=page.modality,
            importance=page.importance,
            entry=self._offered(page.page_id, lines, count),
        )

    def _offered(self, page_id: str, lines: _Lines, count: Callable[[str], int]) -> ManifestLine:
        page = self._process.session.pages[page_id]
        known = lines.offered.get(page_id)
        if known is None or not _same(known[0], page):
            line = offered_line(page, self._process.session.tier(page), self._process.session.config.layout, count)
            known = lines.offered[page_id] = (page, line)
        return known[1]


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


def _same(before: PageState, now: PageState) -> bool:
    """Whether prompts show two states of a page alike."""
    return (
        before.current_version == now.current_version
        and before.pinned is now.pinned
        and before.importance == now.importance
        and before.hint == now.hint
        and len(before.current.representations) == len(now.current.representations)
    )


def _limits(
    request: PromptRequest, config: ev.SessionConfig, model: ModelTokens, tools: Sequence[Mapping[str, Any]]
) -> ChatLimits:
    budget = request.budget_tokens or config.max_l0_tokens
    if request.reserve_tokens >= budget:
        raise BudgetTooSmall(budget, request.reserve_tokens + 1)
    return chat_limits(
        model.countable(budget - request.reserve_tokens),
        tools_tokens=count_tools(model.tokenizer, tools),
        message_frame_tokens=MESSAGE_TOKENS,
        reply_frame_tokens=REPLY_TOKENS,
    )


@lru_cache(maxsize=16)
def _remembering(model: ModelTokens) -> Callable[[str], int]:
    """Counts a short text once: a prompt asks for the same ones at every call."""
    remembered = lru_cache(maxsize=65_536)(model.tokenizer.count)

    def count(text: str) -> int:
        return remembered(text) if len(text) <= 4_096 else model.tokenizer.count(text)

    return count
