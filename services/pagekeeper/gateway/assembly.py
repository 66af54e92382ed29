"""A prompt for a model and a budget, from what working-set says is resident.

One hop: working-set answers the resident pages and what the manifest may offer, or that nothing has changed since this
replica asked last; contents come from the cache. A second hop, to page-table, where pages are not resident that the
user's words may call for. The counts made when pages were written are added up, unless a prompt asks for another
model's tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from pagekeeper.core import prompt
from pagekeeper.core.assembly import AssembledChat, ChatLimits, ChatMessage, ChatParts, assemble_chat, digest_of
from pagekeeper.core.demand_paging import RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.events import DemandPaging, SessionConfig, VMMode
from pagekeeper.core.lru import Lru
from pagekeeper.core.packing import ContextPage, PackedLine, attributed
from pagekeeper.core.prompt_parts import AVAILABLE_PAGES_MAX, chat_limits, fault_policies
from pagekeeper.core.prompt_section import PromptPage, PromptSection
from pagekeeper.gateway.contents import Contents
from pagekeeper.gateway.counting import Counting, counting_for, remembering, tokens_message
from pagekeeper.gateway.ports import PageTablePort, WorkingSetPort
from pagekeeper.gateway.prompt_tools import PromptTools, Tools
from pagekeeper.gateway.recalling import NOTHING, Recall, Recalled, demand_paging, recall
from pagekeeper.gateway.resident_lines import KnownSession, wanted
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.tokens import MESSAGE_TOKENS, REPLY_TOKENS, EncodingName, ModelTokens
from pagekeeper.runtime.views import MODALITY_OF, PRESSURE
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

REMEMBERED_SESSIONS_MAX: Final = 2_048
REMEMBERED_BYTES_MAX: Final = 512 * 1024 * 1024
"""What the sessions take together, as `KnownSession.size_bytes` estimates it."""
REMEMBERED_PROMPT_BYTES_MAX: Final = 64 * 1024 * 1024

_PRESSURES: Final = {number: pressure for pressure, number in PRESSURE.items()}


class _OrderWanted(Exception):
    """A prompt has no room for all residents, and working-set was not asked which go first."""


class _NotAsked(Sequence[str]):
    """The order of eviction, in place of one that hardly any prompt looks at."""

    def __len__(self) -> int:
        raise _OrderWanted

    def __getitem__(self, _: object) -> Any:  # noqa: ANN401 - never answers
        raise _OrderWanted


class PromptAssembler:
    def __init__(self, page_table: PageTablePort, working_set: WorkingSetPort, contents: Contents, pool: Pool) -> None:
        self._page_table = page_table
        self._working_set = working_set
        self._contents = contents
        self._known: Lru[tuple[str, str], KnownSession] = Lru(
            count_max=REMEMBERED_SESSIONS_MAX, bytes_max=REMEMBERED_BYTES_MAX, size_bytes=attrgetter("size_bytes")
        )
        self._pool = pool
        self._tools = PromptTools(pool)
        self._prompts: Lru[tuple[str, str], _Remembered] = Lru(
            bytes_max=REMEMBERED_PROMPT_BYTES_MAX, size_bytes=attrgetter("size_bytes")
        )

    async def assemble(self, caller: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
        """Raises SessionNotFound, BudgetTooSmall, StoreUnavailable, ContentCorrupt."""
        known = await self._ask(caller, request)
        key = (caller.tenant, request.session_id)
        remembered = self._prompts.get(key)
        if remembered is not None and remembered.answers(request, known.revision):
            return remembered.response
        earlier = remembered.messages[0] if remembered is not None else None
        try:
            response, messages = await self._answer(caller, request, known, earlier)
        except _OrderWanted:
            known = await self._ask(caller, request, with_order=True)
            response, messages = await self._answer(caller, request, known, earlier)
        self._prompts.put(key, _Remembered(known.revision, _question(request), response, messages))
        return response

    async def _ask(
        self, caller: Caller, request: pb.AssemblePromptRequest, *, with_order: bool = False
    ) -> KnownSession:
        key = (caller.tenant, request.session_id)
        known = self._known.get(key)
        answer = await self._working_set.resident(
            caller,
            working_pb.ResidentRequest(
                session_id=request.session_id,
                min_revision=request.min_revision,
                strict=request.strict,
                known_revision=known.revision if known else 0,
                available_limit=AVAILABLE_PAGES_MAX,
                changes=True,
                omit_eviction_order=not with_order,
            ),
        )
        latest = known if known is not None and answer.unchanged else _told(known, answer)
        if with_order:
            latest.eviction_order = answer.eviction_order
        self._known.put(key, latest)
        return latest

    async def _answer(
        self, caller: Caller, request: pb.AssemblePromptRequest, known: KnownSession, earlier: ChatMessage | None
    ) -> tuple[pb.AssemblePromptResponse, tuple[ChatMessage, ...]]:
        counting = counting_for(request.model or known.config.model, known.config.model).corrected(known.answer.usage)
        lines = await known.lines(caller, request.session_id, self._contents, counting)
        words_page_id, input_page_id = known.answer.words_page_id, known.answer.input_page_id
        user_input = request.user_input
        context, faulted = lines.sections(without="" if user_input else input_page_id)
        if not user_input and input_page_id:
            user_input = await self._words(caller, request.session_id, known, input_page_id, attribute=True)
        paging = demand_paging(request, known.config.demand_paging)
        mode = mode_for(paging, known.config.mode)
        tools = await self._tools.tools(caller.tenant, request, counting.model, passive=mode is VMMode.PASSIVE)
        limits = _limits(request, known.config, counting.model, tools.tokens)
        resident_tokens = context.tokens + faulted.tokens
        if resident_tokens > limits.budget_tokens - limits.reserve_tokens:
            context, faulted = await known.with_lower_levels(
                caller, request.session_id, self._contents, (context, faulted), counting
            )
        recalled = NOTHING
        if paging is not DemandPaging.MODEL:
            spoken = input_page_id or words_page_id
            words = request.user_input or (
                await self._words(caller, request.session_id, known, spoken) if spoken else ""
            )
            room = room_for(
                words,
                known.config,
                budget_tokens=limits.budget_tokens,
                tools_tokens=limits.tools_tokens,
                resident_tokens=resident_tokens,
                everything_shown=not known.answer.available_total and lines.all_full,
            )
            recalled = await self._recall(caller, request, known, words, room)
            shown = [content for page in recalled.pages for _, content in page.contents]
            await self._contents.count(caller, counting, shown)
            limits = replace(limits, recall_tokens_max=room.tokens(recalled.calls_before))
        stats = known.answer.stats
        parts = ChatParts(
            session_id=request.session_id,
            mode=mode,
            layout=known.config.layout,
            system_prompt=request.system_prompt,
            context=context,
            faulted=faulted,
            recalled=PromptSection(_recalled_page(known, page, counting) for page in recalled.pages),
            utility=recalled.utility,
            eviction_order=_NotAsked() if known.eviction_order is None else known.eviction_order,
            available=[known.manifest_line(page, counting.count) for page in known.answer.available],
            policies=fault_policies(
                known.config,
                mode,
                faults_this_turn=stats.faults_this_turn,
                fault_tokens_this_turn=stats.fault_tokens_this_turn,
            ),
            pressure=_PRESSURES[stats.pressure],
            user_input=user_input,
            instructions_role=counting.model.instructions_role,
        )
        try:
            chat = await self._chat(caller, parts, limits, counting, earlier)
        except BudgetTooSmall as small:
            # Said in the model's own tokens, and of the budget that was asked for.
            needed = counting.model.counted_by_model(small.needed_tokens) + request.reserve_tokens
            raise BudgetTooSmall(request.budget_tokens or known.config.max_l0_tokens, needed) from small
        transient = {page.page.page_id: _transient(page.page) for page in recalled.pages}
        return _response(request, known, chat, transient, counting.model, tools), chat.messages

    async def _chat(
        self, caller: Caller, parts: ChatParts, limits: ChatLimits, counting: Counting, earlier: ChatMessage | None
    ) -> AssembledChat:
        """The request, made in the pool when the user says much; a long text of instructions is counted there once.

        Raises BudgetTooSmall, TooManyRequests.
        """
        if len(parts.system_prompt) > HERE_BYTES_MAX:
            instructions = prompt.instructions(parts.mode, parts.system_prompt)
            await counting.memory.prepare(self._pool, caller.tenant, [instructions])
        if len(parts.user_input) <= HERE_BYTES_MAX:
            return assemble_chat(parts, limits, counting.count, earlier)
        if isinstance(parts.eviction_order, _NotAsked):
            raise _OrderWanted  # which the pool cannot ask for
        parts = replace(parts, eviction_order=tuple(parts.eviction_order))  # of a message, which cannot be sent
        encoding = EncodingName(counting.model.tokenizer.name)
        return await self._pool.run(caller.tenant, assemble_apart, parts, limits, encoding)

    async def _words(
        self, caller: Caller, session_id: str, known: KnownSession, page_id: str, *, attribute: bool = False
    ) -> str:
        """The words of a resident page; with `attribute`, after who said them and when, if that is known."""
        entry = known.entries[page_id]
        (content,) = await self._contents.load(caller, session_id, [wanted(entry)])
        text = content.data.decode()
        return attributed(text, entry.page.speaker, entry.page.said_unix_ms) if attribute else text

    async def _recall(
        self, caller: Caller, request: pb.AssemblePromptRequest, known: KnownSession, words: str, room: RecallRoom
    ) -> Recall:
        """Return the recalled pages that fit."""
        if not words or not room.tokens():
            return NOTHING
        question = table_pb.RecallPagesRequest(
            session_id=request.session_id,
            query=words,
            room_tokens=room.tokens(),
            min_revision=known.revision,
            residents_placed=room.residents_placed,
        )
        return await recall(caller, self._page_table, self._contents, known.entries, question)


def assemble_apart(parts: ChatParts, limits: ChatLimits, encoding: EncodingName) -> AssembledChat:
    """`assemble_chat` for the pool, whose processes have memories of their own. Raises BudgetTooSmall."""
    return assemble_chat(parts, limits, remembering(encoding).count)


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
        """The response, and the messages as text and as UTF-8."""
        return self.response.ByteSize() + 3 * sum([len(message.utf8) for message in self.messages])


def _question(request: pb.AssemblePromptRequest) -> bytes:
    """Return the digest of a request: of everything but the revision that the answer must reach."""
    question = pb.AssemblePromptRequest()
    question.CopyFrom(request)
    question.ClearField("min_revision")
    question.ClearField("strict")
    return sha256(question.SerializeToString(deterministic=True)).digest()


def _told(known: KnownSession | None, answer: working_pb.ResidentResponse) -> KnownSession:
    return KnownSession.of(answer) if known is None else known.after(answer)


def _recalled_page(known: KnownSession, recalled: Recalled, counting: Counting) -> PromptPage:
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
        entry=known.manifest_line(page, counting.count),
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
    known: KnownSession,
    chat: AssembledChat,
    transient: Mapping[str, session_pb2.ResidentPage],
    model: ModelTokens,
    tools: Tools,
) -> pb.AssemblePromptResponse:
    stats = known.answer.stats
    response = pb.AssemblePromptResponse(
        revision=known.revision,
        tools_json=tools.compact,
        tokens=tokens_message(chat, model, request.budget_tokens or known.config.max_l0_tokens),
        digest=digest_of(chat.messages, tools.canonical),
        pages=[
            *(_shown(known.entries[line.page_id].resident, line) for line in (*chat.included, *chat.faulted)),
            *(_shown(transient[line.page_id], line) for line in chat.recalled),
        ],
        omitted_page_ids=chat.omitted,
        lowered_page_ids=chat.lowered,
        pressure=stats.pressure,
        turn=known.answer.turn,
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
