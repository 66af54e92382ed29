"""SessionManager in this process: what is sent fits and says nothing twice, and segments end as they should."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pagekeeper.client import SessionManager, SummarizationStrategy, VirtualMemoryDisabled
from pagekeeper.core.errors import BudgetTooSmall, InvalidField
from pagekeeper.memory import (
    CompressorRegistry,
    ImportanceWeightedLRU,
    PageType,
    StorageTier,
    VMMode,
    WorkingSetConfig,
)
from pagekeeper.runtime.tokens import count_messages, count_tools, for_model

SMALL = WorkingSetConfig(max_l0_tokens=1_200, reserved_tokens=600)
DECISION = "We decided to sign access tokens with EdDSA."
WORDS = "The tide comes in at dawn and again at dusk, and the ferries wait for it at the pier. " * 2


async def talk(sm: SessionManager, turns: int, start: int = 0) -> None:
    for number in range(start, start + turns):
        await sm.user_says(f"({number}) {WORDS}")
        await sm.ai_responds(f"Noted ({number}).", model="gpt-4o")


def context(messages: list[dict[str, str]]) -> str:
    """The lines of pages, without the manifest's hints."""
    return messages[0]["content"].partition("<VM:CONTEXT>")[2]


def called(name: str, **arguments: object) -> SimpleNamespace:
    function = SimpleNamespace(name=name, arguments=json.dumps(arguments))
    message = SimpleNamespace(content=None, tool_calls=[SimpleNamespace(id="call_1", function=function)])
    return SimpleNamespace(choices=[SimpleNamespace(message=message)])


async def test_without_virtual_memory_it_keeps_what_was_said() -> None:
    sm = SessionManager(system_prompt="Be brief.")
    await sm.user_says("Hello.", channel="desk")
    await sm.ai_responds("Hi.", model="gpt-4o")
    await sm.tool_used("clock", {}, "noon")
    await sm.user_says("Bye.")
    bare = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Bye."},
    ]
    assert await sm.get_messages_for_llm(include_system=False) == bare
    assert await sm.get_messages_for_llm() == [{"role": "system", "content": "Be brief."}, *bare]
    assert await sm.build_request("gpt-4o-mini") == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "Be brief."}, *bare],
    }
    stats = await sm.get_stats()
    assert (stats["total_messages"], stats.tool_calls, stats.total_events) == (3, 1, 4)
    assert (sm.vm, sm.session, sm.get_vm_context()) == (None, None, None)
    for memory_call in (sm.search_pages("x"), sm.handle_fault("x"), sm.pin_page("x"), sm.checkpoint("x")):
        with pytest.raises(VirtualMemoryDisabled):
            await memory_call


async def test_the_settings_reach_the_memory() -> None:
    sm = SessionManager(
        session_id="mine",
        enable_vm=True,
        vm_mode=VMMode.PASSIVE,
        vm_config=SMALL,
        vm_eviction_policy=ImportanceWeightedLRU(),
        vm_compressor_registry=CompressorRegistry.default(),
    )
    assert sm.vm is not None
    assert (sm.session_id, sm.vm.session_id, sm.vm.mode) == ("mine", "mine", VMMode.PASSIVE)
    assert sm.vm.session.config.limit_tokens == 600
    assert "tools" not in await sm.build_request()
    assert sm.vm.session.config.eviction_policy == "importance-lru/1"
    with pytest.raises(InvalidField, match="eviction_policy"):
        SessionManager(enable_vm=True, vm_eviction_policy="mru/1")


async def test_however_long_the_talk_what_is_sent_fits_and_says_nothing_twice() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, vm_eviction_policy="lru/1", system_prompt="Be brief.")
    counter = for_model("gpt-4o").tokenizer
    await sm.user_says(DECISION)
    for number in range(30):
        await sm.user_says(f"({number}) {WORDS}")
        request = await sm.build_request()
        memory, words = request["messages"]
        assert (memory["role"], words["role"]) == ("system", "user")
        assert memory["content"].startswith("Be brief.")
        assert count_messages(counter, request["messages"]) + count_tools(counter, request["tools"]) <= 1_200
        assert words["content"].endswith(f"({number}) {WORDS}")
        assert f"({number}) " not in context(request["messages"])
        await sm.ai_responds(f"Noted ({number}).", model="gpt-4o")
    assert DECISION not in context(await sm.get_messages_for_llm())


@pytest.mark.parametrize(
    ("max_l0_tokens", "reserved_tokens", "system_prompt"),
    [(4_000, 1_000, "You are the assistant of a shop. " * 60), (2_000, 500, ""), (4_000, None, "")],
)
async def test_a_whole_request_fits_the_budget(
    max_l0_tokens: int, reserved_tokens: int | None, system_prompt: str
) -> None:
    """System prompt, rules, manifest and tools included; with the default reserve, there is room for pages too."""
    settings = {} if reserved_tokens is None else {"reserved_tokens": reserved_tokens}
    config = WorkingSetConfig(max_l0_tokens=max_l0_tokens, **settings)
    sm = SessionManager(system_prompt=system_prompt, enable_vm=True, vm_config=config)
    counter = for_model("gpt-4o").tokenizer
    request: dict[str, Any] = {}
    for number in range(60):
        words = f"crane {number % 7} lifts {number % 13} tons in hall {number % 5} " * (1 + number % 9)
        await sm.user_says(f"note {number}: {words}")
        request = await sm.build_request()
        assert count_messages(counter, request["messages"]) + count_tools(counter, request["tools"]) <= max_l0_tokens
        await sm.ai_responds("fine")
    assert context(request["messages"]).count("\n") > 5


async def test_a_budget_without_room_for_a_conversation_is_refused_with_what_is_needed() -> None:
    sm = SessionManager(enable_vm=True, vm_config=WorkingSetConfig(max_l0_tokens=600), system_prompt="Be brief. " * 200)
    await sm.user_says("Hello.")
    with pytest.raises(BudgetTooSmall) as refused:
        await sm.build_request()
    assert 700 < refused.value.needed_tokens < 1_200


async def test_the_last_words_are_sent_even_when_they_are_no_page_of_the_prompt() -> None:
    sm = SessionManager(enable_vm=True, vm_config=WorkingSetConfig(max_l0_tokens=2_400, reserved_tokens=1_200))
    large = WORDS * 40
    await sm.user_says(large)
    assert sm.vm is not None
    assert sm.vm.working_set.get_l0_page_ids() == []
    assert (await sm.get_messages_for_llm())[-1]["content"].endswith(large)
    await talk(sm, 1)
    assert large not in json.dumps(await sm.get_messages_for_llm())
    await sm.user_says(f"{WORDS * 200} Which of them?")
    cut = (await sm.get_messages_for_llm())[-1]["content"]
    assert cut.endswith("Which of them?")
    assert "characters of this message are left out here; page_fault with page_id" in cut


async def test_what_the_words_call_for_is_there_before_the_model_asks() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, vm_eviction_policy="lru/1")
    await sm.user_says(DECISION)
    await talk(sm, 20)
    assert DECISION not in context(await sm.get_messages_for_llm())
    await sm.user_says("What did we decide about signing access tokens?")
    [_, words] = await sm.get_messages_for_llm()
    assert DECISION in words["content"].partition("<VM:FAULTED>")[2].partition("</VM:FAULTED>")[0]
    assert sm.vm is not None
    assert sm.vm.fault_metrics().faults_this_turn == 0
    assert not sm.vm.working_set.is_in_l0("p1")


async def test_a_models_calls_are_answered_for_the_next_request() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, vm_eviction_policy="lru/1")
    await sm.user_says(DECISION)
    await talk(sm, 20)
    [found] = (await sm.search_pages("EdDSA", limit=1)).results
    assert found.tier is StorageTier.L2
    result = await sm.process_response(called("page_fault", page_id=found.page_id, target_level=0))
    assert isinstance(result, dict)
    [answer] = result["tool_results"]
    assert json.loads(answer["content"])["page"]["content"] == {"text": DECISION}
    assert DECISION in (await sm.get_messages_for_llm())[-1]["content"]
    text = SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="EdDSA.", tool_calls=None))])
    assert await sm.process_response(text) == "EdDSA."


async def test_a_turns_faults_come_back_with_the_users_next_words() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL)
    await talk(sm, 20)
    assert sm.vm is not None
    away = [entry.page_id for entry in sm.vm.page_table.get_by_tier(StorageTier.L2)]
    faults = [await sm.handle_fault(page_id) for page_id in away[:4]]
    assert [fault.success for fault in faults] == [True, True, True, False]
    await sm.user_says("Hello.")
    assert (await sm.handle_fault(away[3])).success


async def test_lines_say_who_spoke_and_which_call_a_tool_answered() -> None:
    sm = SessionManager(enable_vm=True)
    await sm.user_says("My favourite colour is teal.", speaker="Alice", said_unix_ms=1_778_248_980_000)
    await sm.ai_responds("Noted.")
    await sm.user_says("Mine is ochre.", speaker="Bob")
    assert (await sm.get_messages_for_llm())[-1]["content"].endswith('"Bob": Mine is ochre.')
    await sm.ai_responds("Noted.")
    await sm.tool_used("clock", {}, "12:00", tool_call_id="c7")
    shown = context(await sm.get_messages_for_llm())
    assert 'U (p1 "Alice" 2026-05-08 14:03): "My favourite colour is teal."' in shown
    assert 'U (p3 "Bob"): "Mine is ochre."' in shown
    assert 'T (p5 "clock" "c7"): {"tool":"clock"' in shown


async def test_what_a_tool_did_is_data() -> None:
    sm = SessionManager(enable_vm=True)
    await sm.tool_used("clock", {"zone": "UTC"}, {"time": "12:00"}, error="late")
    expected = '{"tool":"clock","arguments":{"zone":"UTC"},"result":{"time":"12:00"},"error":"late"}'
    assert expected in (await sm.get_messages_for_llm())[0]["content"]


async def test_a_full_segment_gives_way_to_its_summary() -> None:
    sm = SessionManager(enable_vm=True, infinite_context=True, max_turns_per_segment=4)
    assert sm.vm is not None
    first_id = sm.session_id
    await sm.user_says("The launch is on the 14th of May.")
    await sm.ai_responds("Noted.")
    await sm.pin_page("p1")
    await sm.user_says("The press gets to know a week before, on the 7th.")
    await sm.ai_responds("Noted.")
    assert sm.session_id == first_id
    await sm.user_says("And now for something else.")

    assert sm.session_id == sm.vm.session_id != first_id
    assert await sm.get_session_chain() == [first_id, sm.session_id]
    resident = {page.page_id: page for page in sm.vm.get_l0_pages()}
    [summary] = [page for page in resident.values() if page.page_type is PageType.SUMMARY]
    assert set(resident) == {"p1", summary.page_id, "p6"}
    assert "14th of May" in str(summary.content)
    links = sm.vm.session.pages[summary.page_id].links
    assert [link.target_page_id for link in links] == ["p1", "p2", "p3", "p4"]
    assert sm.vm.working_set.is_pinned(summary.page_id)
    assert len(sm.vm.list_checkpoints()) == 1
    memory, words = await sm.get_messages_for_llm()
    assert words["content"].endswith("And now for something else.")
    assert str(summary.content).partition("\n")[0] in memory["content"]
    said = await sm.get_conversation()
    assert [one["session_id"] == first_id for one in said] == [True] * 4 + [False]
    assert len(await sm.get_conversation(include_all_segments=False)) == 1


async def test_segments_end_by_tokens_too_and_only_the_newest_summary_is_pinned() -> None:
    sm = SessionManager(enable_vm=True, infinite_context=True, token_threshold=200, max_turns_per_segment=1_000)
    await talk(sm, 12)
    stats = await sm.get_stats()
    assert stats.session_segments == len(stats.session_chain) > 3
    assert sm.vm is not None
    pinned = [entry.page_id for entry in sm.vm.page_table.get_by_type(PageType.SUMMARY) if entry.pinned]
    assert len(pinned) == 1
    assert sm.vm.working_set.is_in_l0(pinned[0])


async def test_figures_of_the_current_segment_are_its_own() -> None:
    sm = SessionManager(infinite_context=True, max_turns_per_segment=2)
    await sm.load_session_chain()
    await talk(sm, 1)
    assert await sm.get_stats(include_all_segments=False) == await sm.get_stats()
    first = await sm.get_stats()
    await sm.user_says("And now for something else.")
    await sm.tool_used("clock", {}, "noon")
    every, current = await sm.get_stats(), await sm.get_stats(include_all_segments=False)
    assert (every.session_segments, every.total_messages, every.tool_calls) == (2, 3, 1)
    assert (current.session_segments, current.total_messages, current.tool_calls) == (1, 1, 1)
    assert current.session_chain == [sm.session_id] == every.session_chain[-1:]
    assert current.total_tokens == every.total_tokens - first.total_tokens > 0
    only = {"role": "user", "content": "And now for something else."}
    assert await sm.get_messages_for_llm(False) == [only]  # noqa: FBT003 - callers of that system give it by place
    assert [said["content"] for said in await sm.get_conversation(False)] == [only["content"]]  # noqa: FBT003 - as above


async def test_a_checkpoint_is_the_way_back() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, vm_eviction_policy="lru/1")
    await sm.user_says(DECISION)
    checkpoint_id = await sm.checkpoint("decided")
    await talk(sm, 20)
    await sm.restore_checkpoint(checkpoint_id)
    assert sm.vm is not None
    assert [page.content for page in sm.vm.get_l0_pages()] == [DECISION]
    await sm.pin_page("p1")
    await talk(sm, 20)
    assert sm.vm.working_set.is_in_l0("p1")
    await sm.unpin_page("p1")
    await talk(sm, 20)
    assert not sm.vm.working_set.is_in_l0("p1")


async def test_nothing_that_was_said_after_a_checkpoint_is_there_once_it_is_restored() -> None:
    sm = SessionManager(enable_vm=True)
    await sm.user_says("marker alpha")
    await sm.ai_responds("ok")
    checkpoint_id = await sm.checkpoint("c")
    await sm.user_says("marker gamma")
    await sm.ai_responds("gamma noted")
    await sm.restore_checkpoint(checkpoint_id)
    await sm.user_says("Which markers?")
    assert not [said for said in await sm.get_messages_for_llm() if "gamma" in said["content"]]
    assert [said["content"] for said in await sm.get_conversation()] == ["marker alpha", "ok", "Which markers?"]
    assert not (await sm.search_pages("gamma")).results
    assert (await sm.get_stats()).total_messages == 3


async def test_segments_are_those_of_the_checkpoint_too() -> None:
    sm = SessionManager(enable_vm=True, infinite_context=True, max_turns_per_segment=2)
    await talk(sm, 2)
    chain, checkpoint_id = await sm.get_session_chain(), await sm.checkpoint("c")
    await talk(sm, 3)
    assert len(await sm.get_session_chain()) > len(chain)
    await sm.restore_checkpoint(checkpoint_id)
    assert await sm.get_session_chain() == chain
    assert sm.session_id == chain[-1]


async def test_an_empty_result_and_half_a_character_are_kept_and_can_be_sent() -> None:
    sm = SessionManager(enable_vm=True)
    await sm.user_says("cut emoji \ud83d")
    await sm.tool_used("mkdir", {}, "")
    await sm.tool_used("read", {}, "caf\udce9")
    messages = await sm.get_messages_for_llm()
    assert "cut emoji \ufffd" in json.dumps(messages, ensure_ascii=False).encode().decode()
    assert (await sm.get_stats()).tool_calls == 2


async def test_any_thread_may_go_on_with_a_conversation() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, vm_eviction_policy="lru/1")
    await sm.user_says(DECISION)
    await talk(sm, 12)
    assert (await sm.search_pages("EdDSA")).results

    def elsewhere() -> str:
        asyncio.run(sm.user_says("What did we decide about signing access tokens?"))
        return str(asyncio.run(sm.get_messages_for_llm())[-1]["content"])

    assert DECISION in await asyncio.to_thread(elsewhere)


async def test_a_conversation_is_saved_to_a_file_and_goes_on_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "talk.memory"
    sm = SessionManager(enable_vm=True, vm_config=SMALL, system_prompt="Be brief.", infinite_context=True)
    await sm.user_says(DECISION, channel="desk")
    await talk(sm, 12)
    sm.save(file)
    script = f"""
import asyncio, sys
from pagekeeper.memory import SessionManager
sm = SessionManager.load({str(file)!r}, infinite_context=True)
async def go_on():
    print(repr(await sm.get_messages_for_llm()))
    await sm.user_says("And now?")
    print(await sm.get_session_chain())
    print((await sm.get_conversation())[-1]["content"], [m for m in ("grpc", "nats", "minio") if m in sys.modules])
asyncio.run(go_on())
"""
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    said, chain, last = run.stdout.splitlines()
    assert said == repr(await sm.get_messages_for_llm())
    assert chain == str(await sm.get_session_chain())
    assert last == "And now? []"


async def test_somebody_else_may_summarise() -> None:
    async def summarize(messages: list[dict[str, str]]) -> str:
        return f"{len(messages)} messages, the first of them: {messages[0]['content']}"

    sm = SessionManager(infinite_context=True, max_turns_per_segment=2, system_prompt="Be brief.")
    sm.set_summary_callback(summarize)
    await sm.user_says("Hello.")
    await sm.ai_responds("Hi.")
    await sm.user_says("Bye.")
    assert await sm.get_messages_for_llm() == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Summary of the conversation so far:\n2 messages, the first of them: Hello."},
        {"role": "user", "content": "Bye."},
    ]


async def test_without_pages_all_segments_are_told_of_while_there_is_room() -> None:
    sm = SessionManager(infinite_context=True, max_turns_per_segment=1)
    for number in range(4):
        await sm.user_says(f"The code of door {number} is {number}{number}.")
    [summaries, last] = await sm.get_messages_for_llm()
    assert [line.split()[4] for line in summaries["content"].splitlines()[1:]] == ["0", "1", "2"]
    assert last["content"] == "The code of door 3 is 33."

    async def at_length(messages: list[dict[str, str]]) -> str:
        return f"{messages[0]['content']} " + "word " * 1_500

    sm.set_summary_callback(at_length)
    for number in range(4, 9):
        await sm.user_says(f"The code of door {number} is {number}{number}.")
    [summaries, _] = await sm.get_messages_for_llm()
    assert [line.split()[4] for line in summaries["content"].splitlines()[1:]] == ["6", "7"]

    async def beyond(_messages: list[dict[str, str]]) -> str:
        return "word " * 9_000

    sm.set_summary_callback(beyond)
    await sm.user_says("Bye.")
    [summaries, _] = await sm.get_messages_for_llm()
    assert summaries["content"].count("word") == 9_000


@pytest.mark.parametrize("strategy", SummarizationStrategy)
async def test_a_strategy_decides_what_the_summary_keeps(strategy: SummarizationStrategy) -> None:
    sm = SessionManager(enable_vm=True, infinite_context=True, max_turns_per_segment=4, summarization_strategy=strategy)
    await sm.user_says("Which database should we use for the ledger?")
    await sm.ai_responds("Great question! PostgreSQL 17, because the ledger needs transactions.")
    await sm.user_says("We decided to use RabbitMQ for the queue.")
    await sm.ai_responds("RabbitMQ it is.")
    await sm.update_system_prompt("Be brief.")
    await sm.user_says("Thanks.")
    assert sm.vm is not None
    [summary] = [str(page.content) for page in sm.vm.get_l0_pages() if page.page_type is PageType.SUMMARY]
    assert "Great question" not in summary
    assert strategy.prompt
    expected = {
        SummarizationStrategy.BASIC: "PostgreSQL 17, because the ledger needs transactions.",
        SummarizationStrategy.KEY_POINTS: "- PostgreSQL 17, because the ledger needs transactions.",
        SummarizationStrategy.TOPIC_BASED: "RabbitMQ: We decided to use RabbitMQ for the queue.",
        SummarizationStrategy.QUERY_FOCUSED: "Q: Which database should we use for the ledger? A: PostgreSQL 17,",
    }
    assert expected[strategy] in summary
