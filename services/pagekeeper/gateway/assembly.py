"""A prompt for a model and a budget, from what working-set says is resident.

One hop: working-set answers the resident pages and what the manifest may offer, or that nothing has changed since this
replica asked last; contents come from the cache. A second hop, to page-table, where pages are not resident that the
user's words may call for. The counts made when pages were written are added up, unless a prompt asks for another
model's tokenizer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from pagekeeper.core.assembly import AssembledChat, ChatLimits, ChatMessage, ChatParts, assemble_chat
from pagekeeper.core.demand_paging import RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.events import DemandPaging, PromptLayout, SessionConfig, VMMode
from pagekeeper.core.lru import Lru
from pagekeeper.core.manifest import AvailablePageEntry, ManifestLine, available_line
from pagekeeper.core.packing import ContextPage, PackedLine, attributed
from pagekeeper.core.prompt_parts import AVAILABLE_PAGES_MAX, chat_limits, fault_policies
from pagekeeper.core.prompt_section import PromptPage, PromptSection
from pagekeeper.gateway.contents import Content, Contents, Wanted, levels_below
from pagekeeper.gateway.counting import Count, Counting, counting_for, tokens_message
from pagekeeper.gateway.ports import PageTablePort, WorkingSetPort
from pagekeeper.gateway.prompt_tools import PromptTools
from pagekeeper.gateway.recalling import NOTHING, Recall, Recalled, demand_paging, recall
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.tokens import MESSAGE_TOKENS, REPLY_TOKENS, ModelTokens
from pagekeeper.runtime.views import MODALITY_OF, PRESSURE, TIER_OF
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

ENTRIES_KEPT_MAX: Final = 4_096
REMEMBERED_SESSIONS_MAX: Final = 2_048
REMEMBERED_PROMPT_BYTES_MAX: Final = 64 * 1024 * 1024

_CONFIG: Final = codec_of(SessionConfig)
_PRESSURES: Final = {number: pressure for pressure, number in PRESSURE.items()}


Page = tuple[working_pb.ResidentEntry, PromptPage]


@dataclass(frozen=True, slots=True)
class _Made:
    """The resident pages as one tokenizer counts them, in the order in which they were first said."""

    pages: list[Page]
    resident: dict[str, session_pb2.ResidentPage]
    faulted: frozenset[str]
    texts: dict[str, str]
    """The user's messages of this turn, by page id: their words alone."""
    inputs: dict[str, str]
    """The same as a prompt's last words: after who said them and when, where that is known."""
    lowered: dict[str, PromptPage] = field(default_factory=dict)
    """With their lines at all lower levels, as far as a budget asked for them, by page."""


@dataclass(slots=True)
class _Known:
    """A replica's cache of a session: working-set's last answer and the values derived from the answer."""

    resident: working_pb.ResidentResponse
    config: SessionConfig
    pages: dict[str, tuple[object, PromptPage]] = field(default_factory=dict)
    entries: dict[str, tuple[object, ManifestLine]] = field(default_factory=dict)
    made: dict[str, _Made] = field(default_factory=dict)
    """By the tokenizer's name."""


class PromptAssembler:
    def __init__(self, page_table: PageTablePort, working_set: WorkingSetPort, contents: Contents) -> None:
        self._page_table = page_table
        self._working_set = working_set
        self._contents = contents
        self._known: Lru[tuple[str, str], _Known] = Lru(count_max=REMEMBERED_SESSIONS_MAX)
        self._tools = PromptTools()
        self._prompts: Lru[tuple[str, str], _Remembered] = Lru(
            bytes_max=REMEMBERED_PROMPT_BYTES_MAX, size_bytes=attrgetter("size_bytes")
        )

    async def assemble(self, caller: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
        """Raises SessionNotFound, BudgetTooSmall, StoreUnavailable, ContentCorrupt."""
        known = await self._ask(caller, request)
        revision = known.resident.revision
        key = (caller.tenant, request.session_id)
        remembered = self._prompts.get(key)
        if remembered is not None and remembered.answers(request, revision):
            return remembered.response
        counting = counting_for(request.model or known.config.model, known.config.model).corrected(known.resident.usage)
        earlier = remembered.messages[0] if remembered is not None else None
        chat, resident = await self._assemble(caller, request, known, counting, earlier)
        response = _response(request, known, chat, resident, counting.model)
        self._prompts.put(key, _Remembered(revision, _question(request), response, chat.messages))
        return response

    async def _ask(self, caller: Caller, request: pb.AssemblePromptRequest) -> _Known:
        key = (caller.tenant, request.session_id)
        known = self._known.get(key)
        answer = await self._working_set.resident(
            caller,
            working_pb.ResidentRequest(
                session_id=request.session_id,
                min_revision=request.min_revision,
                strict=request.strict,
                known_revision=known.resident.revision if known else 0,
                available_limit=AVAILABLE_PAGES_MAX,
            ),
        )
        if known is not None and answer.unchanged:
            return known
        fresh = _Known(answer, _CONFIG.decode(answer.config))
        if known is not None and known.config.layout is fresh.config.layout and len(known.entries) < ENTRIES_KEPT_MAX:
            fresh.pages, fresh.entries = known.pages, known.entries
        self._known.put(key, fresh)
        return fresh

    async def _assemble(
        self,
        caller: Caller,
        request: pb.AssemblePromptRequest,
        known: _Known,
        counting: Counting,
        earlier: ChatMessage | None,
    ) -> tuple[AssembledChat, dict[str, session_pb2.ResidentPage]]:
        made = await self._made(caller, request.session_id, known, counting)
        user_input, pages = request.user_input, made.pages
        input_page_id = known.resident.input_page_id
        if not user_input and input_page_id:
            user_input = made.inputs[input_page_id]
            pages = [page for page in pages if page[1].page.line.page_id != input_page_id]
        paging = demand_paging(request, known.config.demand_paging)
        mode = mode_for(paging, known.config.mode)
        tools = self._tools.tools(request, counting.model, passive=mode is VMMode.PASSIVE)
        limits = _limits(request, known.config, counting.model, tools.tokens)
        if sum(page.page.line.tokens for _, page in pages) > limits.budget_tokens - limits.reserve_tokens:
            pages = await self._with_lower_levels(caller, request.session_id, pages, made.lowered, counting)
        recalled = NOTHING
        if paging is not DemandPaging.MODEL:
            words = request.user_input or made.texts.get(input_page_id or known.resident.words_page_id, "")
            room = _recall_room(words, pages, known, limits)
            recalled = await self._recall(caller, request, known, words, room)
            limits = replace(limits, recall_tokens_max=room.tokens(recalled.calls_before))
        stats = known.resident.stats
        parts = ChatParts(
            session_id=request.session_id,
            mode=mode,
            layout=known.config.layout,
            system_prompt=request.system_prompt,
            context=PromptSection(page for _, page in pages if page.page.line.page_id not in made.faulted),
            faulted=PromptSection(page for _, page in pages if page.page.line.page_id in made.faulted),
            recalled=PromptSection(_recalled_page(known, page, counting) for page in recalled.pages),
            utility=recalled.utility,
            eviction_order=known.resident.eviction_order,
            available=[
                _available_line(known, page, known.config.layout, counting.count) for page in known.resident.available
            ],
            policies=fault_policies(
                known.config,
                mode,
                faults_this_turn=stats.faults_this_turn,
                fault_tokens_this_turn=stats.fault_tokens_this_turn,
            ),
            pressure=_PRESSURES[stats.pressure],
            user_input=user_input,
            tools=tools.definitions,
            instructions_role=counting.model.instructions_role,
        )
        try:
            chat = assemble_chat(parts, limits, counting.count, earlier)
        except BudgetTooSmall as small:
            # Said in the model's own tokens, and of the budget that was asked for.
            needed = counting.model.counted_by_model(small.needed_tokens) + request.reserve_tokens
            raise BudgetTooSmall(request.budget_tokens or known.config.max_l0_tokens, needed) from small
        return chat, made.resident | {page.page.page_id: _transient(page.page) for page in recalled.pages}

    async def _made(self, caller: Caller, session_id: str, known: _Known, counting: Counting) -> _Made:
        """The resident pages, made once for each answer of working-set."""
        made = known.made.get(counting.model.tokenizer.name)
        if made is not None:
            return made
        entries = list(known.resident.resident)
        contents = await self._contents.load(caller, session_id, [_wanted(entry) for entry in entries])
        loaded = list(zip(entries, contents, strict=True))
        spoken = (known.resident.input_page_id, known.resident.words_page_id)
        said = [(entry, content) for entry, content in loaded if entry.resident.page_id in spoken]
        made = known.made[counting.model.tokenizer.name] = _Made(
            pages=[(entry, _prompt_page(known, entry, content, counting)) for entry, content in loaded],
            resident={entry.resident.page_id: entry.resident for entry in entries},
            faulted=frozenset(entry.resident.page_id for entry in entries if entry.resident.faulted),
            texts={e.resident.page_id: content.data.decode() for e, content in said},
            inputs={
                e.resident.page_id: attributed(content.data.decode(), e.page.speaker, e.page.said_unix_ms)
                for e, content in said
            },
        )
        return made

    async def _recall(
        self, caller: Caller, request: pb.AssemblePromptRequest, known: _Known, words: str, room: RecallRoom
    ) -> Recall:
        """Return the recalled pages that fit."""
        if not words or not room.tokens():
            return NOTHING
        question = table_pb.RecallPagesRequest(
            session_id=request.session_id,
            query=words,
            room_tokens=room.tokens(),
            min_revision=known.resident.revision,
            residents_placed=room.residents_placed,
        )
        return await recall(caller, self._page_table, self._contents, known.resident, question)

    async def _with_lower_levels(
        self,
        caller: Caller,
        session_id: str,
        pages: Sequence[Page],
        lowered: dict[str, PromptPage],
        counting: Counting,
    ) -> list[Page]:
        """The pages with their lines at all lower levels, for a budget that has no room for all of them as they are."""
        missing = [(entry, page) for entry, page in pages if entry.resident.page_id not in lowered]
        lower = [levels_below(entry.page, entry.resident.level) for entry, _ in missing]
        wanted = [
            Wanted(entry.page, representation.level)
            for (entry, _), representations in zip(missing, lower, strict=True)
            for representation in representations
        ]
        contents = iter(await self._contents.load(caller, session_id, wanted))
        for (entry, page), representations in zip(missing, lower, strict=True):
            lines = []
            for representation in representations:
                line = next(contents).line
                tokens = counting.of_line(line, representation.size_tokens)
                lines.append(PackedLine(entry.resident.page_id, representation.level, line, tokens))
            with_lower = ContextPage(page.page.line, tuple(lines), mandatory=page.page.mandatory)
            lowered[entry.resident.page_id] = PromptPage(with_lower, page.modality, page.importance, page.entry)
        return [(entry, lowered[entry.resident.page_id]) for entry, _ in pages]


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A prompt that was answered, and its messages: the next one often has the developer's too."""

    revision: int
    question: bytes
    response: pb.AssemblePromptResponse
    messages: tuple[ChatMessage, ...]

    def answers(self, request: pb.AssemblePromptRequest, revision: int) -> bool:
        return self.revision == revision and self.question == _question(request)

    @property
    def size_bytes(self) -> int:
        """The messages as text, as UTF-8 and in the response."""
        return 3 * sum([len(message.utf8) for message in self.messages])


def _question(request: pb.AssemblePromptRequest) -> bytes:
    """Return the key of a request: everything but the revision that the answer must reach."""
    question = pb.AssemblePromptRequest()
    question.CopyFrom(request)
    question.ClearField("min_revision")
    question.ClearField("strict")
    return question.SerializeToString(deterministic=True)


def _wanted(entry: working_pb.ResidentEntry) -> Wanted:
    level = entry.resident.level
    inline = next((one.data for one in entry.inline if one.level == level), None)
    return Wanted(entry.page, level, inline)


def _prompt_page(known: _Known, entry: working_pb.ResidentEntry, content: Content, counting: Counting) -> PromptPage:
    resident, page = entry.resident, entry.page
    fingerprint = (
        resident.version,
        resident.level,
        page.pinned,
        resident.importance,
        page.hint,
        page.tier,
        len(page.representations),
        counting.model.tokenizer.name,
    )
    made = known.pages.get(resident.page_id)
    if made is not None and made[0] == fingerprint:
        return made[1]
    tokens = counting.of_line(content.line, resident.size_tokens)
    line = PackedLine(resident.page_id, resident.level, content.line, tokens)
    prompt_page = PromptPage(
        page=ContextPage(line, mandatory=page.pinned),
        modality=MODALITY_OF[page.modality],
        importance=resident.importance,
        entry=_available_line(known, page, known.config.layout, counting.count),
    )
    known.pages[resident.page_id] = (fingerprint, prompt_page)
    return prompt_page


def _available_line(known: _Known, page: page_pb2.Page, layout: PromptLayout, count: Count) -> ManifestLine:
    fingerprint = (page.hint, page.tier, len(page.representations), page.version, count)
    made = known.entries.get(page.page_id)
    if made is not None and made[0] == fingerprint:
        return made[1]
    entry = AvailablePageEntry(
        page_id=page.page_id,
        modality=MODALITY_OF[page.modality],
        tier=TIER_OF[page.tier],
        levels=tuple(r.level for r in page.representations),
        hint=page.hint,
    )
    line = available_line(entry, layout, count)
    known.entries[page.page_id] = (fingerprint, line)
    return line


def _recalled_page(known: _Known, recalled: Recalled, counting: Counting) -> PromptPage:
    page = recalled.page
    sizes = {representation.level: representation.size_tokens for representation in page.representations}
    lines = [
        PackedLine(page.page_id, level, content.line, counting.of_line(content.line, sizes[level]))
        for level, content in recalled.contents
    ]
    return PromptPage(
        page=ContextPage(lines[0], tuple(lines[1:])),
        modality=MODALITY_OF[page.modality],
        importance=page.importance,
        entry=_available_line(known, page, known.config.layout, counting.count),
    )


def _recall_room(words: str, pages: Sequence[Page], known: _Known, limits: ChatLimits) -> RecallRoom:
    return room_for(
        words,
        known.config,
        budget_tokens=limits.budget_tokens,
        tools_tokens=limits.tools_tokens,
        resident_tokens=sum(page.page.line.tokens for _, page in pages),
        everything_shown=not known.resident.available_total and all(entry.resident.level == 0 for entry, _ in pages),
    )


def _transient(page: page_pb2.Page) -> session_pb2.ResidentPage:
    """A page that is in this prompt alone."""
    return session_pb2.ResidentPage(
        page_id=page.page_id, version=page.version, importance=page.importance, pinned=page.pinned, faulted=True
    )


def _limits(
    request: pb.AssemblePromptRequest, config: SessionConfig, model: ModelTokens, tools_tokens: int
) -> ChatLimits:
    budget = request.budget_tokens or config.max_l0_tokens
    if request.reserve_tokens >= budget:
        raise BudgetTooSmall(budget, request.reserve_tokens + 1)
    countable = model.countable(budget - request.reserve_tokens)
    return chat_limits(
        countable,
        tools_tokens=tools_tokens,
        message_frame_tokens=MESSAGE_TOKENS,
        reply_frame_tokens=REPLY_TOKENS,
    )


def _response(
    request: pb.AssemblePromptRequest,
    known: _Known,
    chat: AssembledChat,
    resident: dict[str, session_pb2.ResidentPage],
    model: ModelTokens,
) -> pb.AssemblePromptResponse:
    stats = known.resident.stats
    response = pb.AssemblePromptResponse(
        revision=known.resident.revision,
        tools_json=json.dumps(chat.tools, ensure_ascii=False, separators=(",", ":")),
        tokens=tokens_message(chat, model, request.budget_tokens or known.config.max_l0_tokens),
        digest=chat.digest,
        pages=[_shown(resident[line.page_id], line) for line in (*chat.included, *chat.faulted, *chat.recalled)],
        omitted_page_ids=chat.omitted,
        lowered_page_ids=chat.lowered,
        pressure=stats.pressure,
        turn=known.resident.turn,
        recalled_page_ids=[line.page_id for line in chat.recalled],
    )
    for message in chat.messages:
        # In place: a message that is handed over is copied, and takes sixty times as long.
        response.messages.add(role=message.role, content=message.utf8)
    return response


def _shown(resident: session_pb2.ResidentPage, line: PackedLine) -> session_pb2.ResidentPage:
    if resident.level == line.level and resident.size_tokens == line.tokens:
        return resident
    shown = session_pb2.ResidentPage()
    shown.CopyFrom(resident)
    shown.level, shown.size_tokens = line.level, line.tokens
    return shown
