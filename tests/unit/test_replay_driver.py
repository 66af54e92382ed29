"""The replay against a small honest memory: what it sends, what it counts, what it concludes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import load_conversations
from demo.corpus.types import Conversation, Message, Recall, Role, ToolCall, Turn
from demo.model.port import ChatMessage, Model, Reply, ToolSchema
from demo.model.scripted import ScriptedModel
from demo.replay.driver import OUTAGE_SECONDS_MAX, TOOL_ROUNDS_MAX, Replay, ReplayBudget
from demo.replay.records import TurnSeen
from demo.replay.report import Replayed, report_on
from pagekeeper.core.errors import LogUnavailable, ServiceUnavailable
from pagekeeper.core.ids import TenantId
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.tokens import for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.replay_memory import TailMemory


def caller() -> Caller:
    return Caller(TenantId("test"), "", 0.0, "trace")


def ticks() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 0.001


def replay(memory: TailMemory, model: Model) -> Replay:
    clock = ticks()
    return Replay(memory, caller, model, "s1", ReplayBudget(), lambda: next(clock))


async def replayed(conversation: Conversation, model: Model, memory: TailMemory) -> list[TurnSeen]:
    return [turn async for turn in replay(memory, model).run(conversation)]


def said(page_id: str, text: str, role: Role = Role.USER) -> Message:
    return Message(page_id, role, text)


def conversation(*turns: Turn, system: tuple[Message, ...] = ()) -> Conversation:
    return Conversation("test", system, turns)


@dataclass
class Answers:
    """A model that gives prepared replies, the last one again and again, and remembers what it was shown."""

    replies: list[Reply]
    shown: list[tuple[list[ChatMessage], int]] = field(default_factory=list)
    name: str = "prepared"
    counted_as: str = "gpt-4o"

    async def complete(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        self.shown.append((list(messages), len(tools)))
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    async def close(self) -> None:
        pass


def fault(page_id: str) -> Reply:
    return Reply("", (ToolCall(f"call-{page_id}", "page_fault", json.dumps({"page_id": page_id, "target_level": 0})),))


async def test_the_default_conversation_passes_every_check() -> None:
    """The acceptance of the main job, but for the services: see the end-to-end tests."""
    (whole,) = load_conversations(DEFAULT_FILE)
    memory = TailMemory()
    turns = await replayed(whole, ScriptedModel(), memory)
    report = report_on(Replayed("default", "s1", "scripted", "gpt-4o", 16_000, 0.0), turns)
    assert [check.name for check in report.checks if not check.passed] == []
    assert report.turns >= 300
    assert len(report.recall.topics) == 5
    assert (report.recall.correct, report.recall.questions) == (10, 10)
    assert all(answer.cited == answer.evidence for answer in report.recall.answers)
    assert report.evictions > 500
    assert report.tokens_seen > 10 * report.budget_tokens


async def test_the_model_is_never_shown_what_the_right_answer_is() -> None:
    secret = Recall("colour", ("zebra-striped",), ("m1",))
    turns = (
        Turn((said("m1", "Hi."),), (said("m2", "Hello.", Role.ASSISTANT),)),
        Turn((said("m3", "Which?"),), (), secret),
    )
    model = Answers([Reply("No idea.")])
    memory = TailMemory()
    await replayed(conversation(*turns), model, memory)
    assert "zebra" not in repr(model.shown) + repr(memory.requests)
    assert "decision_message" not in repr(memory.requests)


async def test_a_recorded_reply_is_appended_and_the_model_is_not_asked() -> None:
    reply = (
        Message("m2", Role.ASSISTANT, "Looking.", (ToolCall("c1", "look", '{"at": 1}'),)),
        Message("m3", Role.TOOL, '{"found": true}', tool_call_id="c1", tool_name="look"),
        said("m4", "Found it.", Role.ASSISTANT),
    )
    memory = TailMemory()
    model = Answers([Reply("never")])
    system = (said("sys", "Be brief.", Role.SYSTEM),)
    (turn,) = await replayed(conversation(Turn((said("m1", "Where?"),), reply), system=system), model, memory)
    assert model.shown == []
    appended = [request for request in memory.requests if isinstance(request, pb.AppendPagesRequest)]
    assert [[page.page_id for page in request.pages] for request in appended] == [["sys"], ["m1"], ["m2", "m3", "m4"]]
    call, result, _ = appended[2].pages
    assert call.text == 'Looking.\n[calls look {"at": 1}]'
    assert (result.modality, result.tool_name, result.tool_call_id) == (page_pb2.MODALITY_STRUCTURED, "look", "c1")
    assert (turn.appended, len(turn.prompt_tokens)) == (5, 1)


async def test_tool_calls_are_answered_and_faults_counted_with_their_cause() -> None:
    turns = (
        Turn((said("m1", "The port is 8080."),), (said("m2", "word " * 12_000, Role.ASSISTANT),)),
        Turn((said("m3", "Which port?"),), (), Recall("port", ("8080",), ("m1",))),
    )
    search = Reply("", (ToolCall("a", "search_pages", '{"query": "port"}'), ToolCall("b", "launch", "{}")))
    model = Answers([search, fault("m1"), fault("m1"), Reply("It is 8080 [ref: m1].")])
    _, turn = await replayed(conversation(*turns), model, TailMemory())
    assert (turn.searches, turn.refused_calls) == (1, ("invalid_field",))
    first, again = turn.faults
    assert (first.page_id, first.reason, first.source_tier, first.promoted) == ("m1", "resolve_reference", "L2", True)
    assert not again.promoted
    assert turn.recall is not None
    assert (turn.recall.correct, turn.recall.shown, turn.recall.cited) == (True, ("m1",), ("m1",))
    roles = [message["role"] for message in model.shown[-1][0]]
    assert roles == ["developer", "user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool"]
    assert len(turn.prompt_tokens) == 4
    assert list(turn.prompt_tokens) == sorted(turn.prompt_tokens)


async def test_a_model_that_never_stops_calling_tools_is_asked_once_without_any() -> None:
    memory = TailMemory()
    model = Answers([fault("m1")])
    (turn,) = await replayed(conversation(Turn((said("m1", "Well?"),), ())), model, memory)
    assert [tools for _, tools in model.shown] == [2] * TOOL_ROUNDS_MAX + [0]
    assert [request for request in memory.requests if isinstance(request, pb.AppendPagesRequest)][1:] == []
    assert turn.recall is None


async def test_tool_results_that_would_exceed_the_budget_are_never_sent() -> None:
    big = "word " * 2_500
    turns = [Turn((said(f"m{n}", big),), (said(f"r{n}", "ok", Role.ASSISTANT),)) for n in range(12)]
    question = Turn((said("q", "Which?"),), ())
    calls = tuple(
        ToolCall(f"c{n}", "page_fault", json.dumps({"page_id": f"m{n}", "target_level": 0})) for n in range(3)
    )
    model = Answers([Reply("", calls), Reply("Enough.")])
    *_, turn = await replayed(conversation(*turns, question), model, TailMemory())
    assert max(turn.prompt_tokens) <= 16_000
    assert [tools for _, tools in model.shown] == [2, 0]
    assert [message["role"] for message in model.shown[-1][0]] == ["developer", "user"]


async def test_the_replay_counts_tokens_itself() -> None:
    class Understating(TailMemory):
        async def assemble_prompt(self, _: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
            prompt = await super().assemble_prompt(_, request)
            prompt.messages[0].content += "word " * 20_000
            return prompt

    turns = await replayed(
        conversation(Turn((said("m1", "Hi."),), (said("m2", "Hello.", Role.ASSISTANT),))),
        Answers([Reply("x")]),
        Understating(),
    )
    report = report_on(Replayed("test", "s1", "m", "gpt-4o", 16_000, 0.0), turns)
    assert report.largest_prompt_tokens > 20_000
    assert [check.name for check in report.checks if not check.passed] == ["prompt_within_budget"]


async def test_reads_ask_for_what_was_written() -> None:
    memory = TailMemory()
    turns = [Turn((said(f"m{n}", "Hi."),), (said(f"r{n}", "Hello.", Role.ASSISTANT),)) for n in range(2)]
    one = replay(memory, Answers([Reply("x")]))
    assert len([turn async for turn in one.run(conversation(*turns))]) == 2
    await one.stats()
    asked = [request.min_revision for request in memory.requests if isinstance(request, pb.AssemblePromptRequest)]
    assert asked == [2, 4]
    assert isinstance(memory.requests[-1], pb.GetStatsRequest)
    assert memory.requests[-1].min_revision == memory.revision
    ids = [request.request_id for request in memory.requests if isinstance(request, pb.AppendPagesRequest)]
    assert len(set(ids)) == len(ids)


async def test_many_and_large_messages_go_in_several_requests() -> None:
    memory = TailMemory()
    many = tuple(said(f"r{n}", "x", Role.ASSISTANT) for n in range(300))
    large = tuple(said(f"l{n}", "x y z\n" * 300_000, Role.ASSISTANT) for n in range(2))
    await replayed(conversation(Turn((said("m1", "Hi."),), many + large)), Answers([Reply("x")]), memory)
    sizes = [len(request.pages) for request in memory.requests if isinstance(request, pb.AppendPagesRequest)]
    assert sum(sizes) == 303
    assert max(sizes) <= 256
    assert all(
        request.ByteSize() < 4 * 2**20 for request in memory.requests if isinstance(request, pb.AppendPagesRequest)
    )


async def test_a_foreign_models_tokens_are_counted_with_its_margin() -> None:
    turn = Turn((said("m1", "Hi there."),), (said("m2", "Hello.", Role.ASSISTANT),))
    exact = await replayed(conversation(turn), Answers([Reply("x")]), TailMemory())
    foreign = await replayed(conversation(turn), Answers([Reply("x")], counted_as="gemini-2.5-pro"), TailMemory())
    margin = for_model("gemini-2.5-pro").margin_percent
    assert margin > 100
    assert foreign[0].prompt_tokens[0] == -(-exact[0].prompt_tokens[0] * margin // 100)


@pytest.mark.parametrize("total", [4_000, 16_000, 128_000])
def test_the_parts_of_a_budget_fit_into_it(total: int) -> None:
    budget = ReplayBudget(total)
    config = budget.session_config("gpt-4o")
    assert config.max_l0_tokens == total
    assert budget.answer_tokens + budget.fault_tokens == budget.tool_turn_reserve_tokens
    assert budget.tool_turn_reserve_tokens < config.reserved_tokens <= total // 2


async def test_a_service_that_is_away_is_waited_for_and_nothing_is_appended_twice() -> None:
    class Flaky(TailMemory):
        """Every third append is done and then not answered; every fourth prompt is refused."""

        calls = 0

        async def append_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
            response = await super().append_pages(caller, request)
            self.calls += 1
            if self.calls % 3 == 0:
                raise LogUnavailable("the answer was lost")
            return response

        async def assemble_prompt(self, caller: Caller, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse:
            self.calls += 1
            if self.calls % 4 == 0:
                raise ServiceUnavailable("gone")
            return await super().assemble_prompt(caller, request)

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    turns = [Turn((said(f"m{n}", "Hi."),), (said(f"r{n}", "Hello.", Role.ASSISTANT),)) for n in range(9)]
    memory, clock = Flaky(), ticks()
    one = Replay(memory, caller, Answers([Reply("x")]), "s1", ReplayBudget(), lambda: next(clock), sleep)
    seen = [turn async for turn in one.run(conversation(*turns))]
    assert sorted(memory.pages) == sorted([f"m{n}" for n in range(9)] + [f"r{n}" for n in range(9)])
    assert sum(turn.repeated for turn in seen) == len(pauses) > 4


async def test_an_outage_that_does_not_end_is_told() -> None:
    class Gone(TailMemory):
        async def append_pages(self, _: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
            raise ServiceUnavailable(f"no answer to {request.request_id}")

    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    turn = Turn((said("m1", "Hi."),), ())
    one = Replay(Gone(), caller, Answers([Reply("x")]), "s1", ReplayBudget(), lambda: now, sleep)
    with pytest.raises(ServiceUnavailable):
        await anext(one.run(conversation(turn)))
    assert OUTAGE_SECONDS_MAX <= now < OUTAGE_SECONDS_MAX + 1
