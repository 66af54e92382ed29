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
from typing import Any, Final, NamedTuple

from pagekeeper.core import prompt
from pagekeeper.core.assembly import AssembledChat, ChatMessage, assemble_chat, digest_of
from pagekeeper.core.chat_parts import ChatLimits, ChatParts
from pagekeeper.core.demand_paging import RecallRoom, mode_for, room_for
from pagekeeper.core.errors import BudgetTooSmall, ContentTooLarge
from pagekeeper.core.events import DemandPaging, SessionConfig, VMMode
from pagekeeper.core.last_words import LastWords, words_to_answer
from pagekeeper.core.lru import Lru
from pagekeeper.core.manifest import ManifestLine
from pagekeeper.core.packing import ContextPage, PackedLine
from pagekeeper.core.prompt_parts import AVAILABLE_PAGES_MAX, chat_limits, fault_policies
from pagekeeper.core.prompt_section import PromptPage, PromptSection
from pagekeeper.gateway.contents import Contents
from pagekeeper.gateway.counting import Counting, counting_for, remembering, tokens_message
from pagekeeper.gateway.ports import PageTablePort, WorkingSetPort
from pagekeeper.gateway.prompt_tools import PromptTools, Tools
from pagekeeper.gateway.recalling import NOTHING, Recall, Recalled, demand_paging, recall
from pagekeeper.gateway.resident_lines import KnownSession, ResidentLines
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX
from pagekeeper.runtime.tokens import MESSAGE_TOKENS, REPLY_TOKENS, EncodingName, ModelTokens
from pagekeeper.runtime.views import MODALITY_OF, PRESSURE
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

ANSWER_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 64 * 1024
SMALL_BYTES: Final = 4 * 1024 * 1024
SMALL_PAGES: Final = 8_192
"""Of a prompt that an answer surely has room for: beside it the answer has tools of 2 MiB and 200 bytes a page."""
ATTEMPTS_MAX: Final = 8
SMALLER: Final = 0.9
"""Of the size that the next attempt aims at, since tokens of other pages have other lengths."""
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


class _Asked(NamedTuple):
    """A request for a prompt, and the facts that the prompt is made of."""

    request: pb.AssemblePromptRequest
    known: KnownSession
    lines: ResidentLines
    counting: Counting
    spoken: tuple[LastWords | None, ManifestLine | None]
    """The user's last words, and the line by which a manifest lists their page."""
    tools: Tools
    mode: VMMode
    share: float
    """Of the budget: less than 1 for a prompt that would exceed the size of an answer."""


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
        """Raises SessionNotFound, BudgetTooSmall, StoreUnavailable."""
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
        known.order_is_wanted = bool(response.omitted_page_ids or response.lowered_page_ids)
        if not response.unreadable_page_ids:
            self._prompts.put(key, _Remembered(known.revision, _question(request), response, messages))
        return response

    async def _ask(
        self, caller: Caller, request: pb.AssemblePromptRequest, *, with_order: bool = False
    ) -> KnownSession:
        key = (caller.tenant, request.session_id)
        known = self._known.get(key)
        with_order = with_order or (known is not None and known.order_is_wanted)
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
        spoken = await known.last_words(caller, request.session_id, self._contents, counting.count)
        said, is_input = spoken[0], bool(known.answer.input_page_id)
        in_context = not known.answer.HasField("words")
        words = words_to_answer(request.user_input, said, is_input=is_input, in_context=in_context)
        mode = mode_for(demand_paging(request, known.config.demand_paging), known.config.mode)
        tools = await self._tools.tools(caller.tenant, request, counting.model, passive=mode is VMMode.PASSIVE)
        share, too_large = 1.0, 0
        for _ in range(ATTEMPTS_MAX):
            asked = _Asked(request, known, lines, counting, spoken, tools, mode, share)
            try:
                chat, transient = await self._assembled(caller, asked, words, earlier)
                if said is not None and not words.text and said.page_id in {*chat.omitted, *chat.lowered}:
                    # The context has no room for the question, so the prompt ends with it.
                    chat, transient = await self._assembled(caller, asked, said, earlier)
            except BudgetTooSmall:
                if too_large:
                    break
                raise
            response = _response(request, known, chat, transient, counting.model, tools)
            response.unreadable_page_ids.extend(_unreadable(known, lines, said))
            if _is_small(chat) or (size_bytes := response.ByteSize()) <= ANSWER_BYTES_MAX:
                return response, chat.messages
            share, too_large = share * SMALLER * ANSWER_BYTES_MAX / size_bytes, size_bytes
        raise ContentTooLarge("messages", too_large, ANSWER_BYTES_MAX)

    async def _assembled(
        self, caller: Caller, asked: "_Asked", words: LastWords, earlier: ChatMessage | None
    ) -> tuple[AssembledChat, dict[str, session_pb2.ResidentPage]]:
        """The prompt that ends with `words`, and the residency of the pages that are in this prompt alone."""
        request, known, lines, counting, (said, said_entry), tools, mode, share = asked
        context, faulted = lines.sections(without=words.page_id)
        paging = demand_paging(request, known.config.demand_paging)
        limits = _limits(request, known.config, counting.model, tools.tokens, share)
        resident_tokens = context.tokens + faulted.tokens
        if resident_tokens > limits.budget_tokens - limits.reserve_tokens:
            context, faulted = await known.with_lower_levels(
                caller, request.session_id, self._contents, (context, faulted), counting
            )
        recalled = NOTHING
        if paging is not DemandPaging.MODEL:
            query = (words if words.text or said is None else said).for_recall
            room = room_for(
                query,
                known.config,
                budget_tokens=limits.budget_tokens,
                tools_tokens=limits.tools_tokens,
                resident_tokens=resident_tokens,
                everything_shown=not known.answer.available_total and lines.all_full,
            )
            recalled = await self._recall(caller, request, known, query, room, held_out=words.page_id)
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
            user_input=words.text,
            input_attribution=words.attribution,
            input_entry=said_entry if words.page_id else None,
            instructions_role=counting.model.instructions_role,
        )
        try:
            chat = await self._chat(caller, parts, limits, counting, earlier)
        except BudgetTooSmall as small:
            # Said in the model's own tokens, and of the budget that was asked for.
            needed = counting.model.counted_by_model(small.needed_tokens) + request.reserve_tokens
            raise BudgetTooSmall(request.budget_tokens or known.config.max_l0_tokens, needed) from small
        return chat, {page.page.page_id: _transient(page.page) for page in recalled.pages}

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

    async def _recall(
        self,
        caller: Caller,
        request: pb.AssemblePromptRequest,
        known: KnownSession,
        words: str,
        room: RecallRoom,
        held_out: str,
    ) -> Recall:
        """Return the recalled pages that fit; the page `held_out` ends the prompt anyway."""
        if not words or not room.tokens():
            return NOTHING
        question = table_pb.RecallPagesRequest(
            session_id=request.session_id,
            query=words,
            room_tokens=room.tokens(),
            min_revision=known.revision,
            residents_placed=room.residents_placed,
        )
        shown = known.entries.keys() | {held_out}
        return await recall(caller, self._page_table, self._contents, shown, question)


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


def _is_small(chat: AssembledChat) -> bool:
    """Whether an answer surely has room for the prompt: adding up all that it says takes longer."""
    pages = len(chat.included) + len(chat.omitted) + len(chat.lowered)
    return pages <= SMALL_PAGES and sum([len(message.utf8) for message in chat.messages]) <= SMALL_BYTES


def _unreadable(known: KnownSession, lines: ResidentLines, said: LastWords | None) -> list[str]:
    """Pages that the prompt leaves out because they cannot be read; the user's last message may be one of them."""
    words = {known.answer.words_page_id} if said is not None and not said.page_id else set()
    return sorted(lines.unreadable | words)


def _transient(page: page_pb2.Page) -> session_pb2.ResidentPage:
    """A page that is in this prompt alone."""
    return session_pb2.ResidentPage(
        page_id=page.page_id, version=page.version, importance=page.importance, pinned=page.pinned, faulted=True
    )


def _limits(
    request: pb.AssemblePromptRequest, config: SessionConfig, model: ModelTokens, tools_tokens: int, share: float
) -> ChatLimits:
    budget = request.budget_tokens or config.max_l0_tokens
    if request.reserve_tokens >= budget:
        raise BudgetTooSmall(budget, request.reserve_tokens + 1)
    countable = int(model.countable(budget - request.reserve_tokens) * share)
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
        input_chars_missing=chat.input_chars_missing,
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
