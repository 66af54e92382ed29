"""SessionManager in this process: what is sent fits and says nothing twice, and segments end as they should."""

import json
from types import SimpleNamespace

import pytest

from pagekeeper.client import SessionManager, SummarizationStrategy, VirtualMemoryDisabled
from pagekeeper.memory import (
    CompressorRegistry,
    ImportanceWeightedLRU,
    PageType,
    StorageTier,
    VMMode,
    WorkingSetConfig,
)
from pagekeeper.runtime.tokens import count_messages, count_tools, for_model

SMALL = WorkingSetConfig(max_l0_tokens=600, reserved_tokens=100)
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
    assert sm.vm.working_set.config is SMALL
    assert "tools" not in await sm.build_request()
    await talk(sm, 30)
    assert sm.vm.metrics.compressions_total > 0


async def test_however_long_the_talk_what_is_sent_fits_and_says_nothing_twice() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL, system_prompt="Be brief.")
    count = for_model("gpt-4o").tokenizer.count
    await sm.user_says(DECISION)
    for number in range(30):
        await talk(sm, 1, start=number)
        messages = await sm.get_messages_for_llm()
        assert messages[0]["role"] == "system"
        assert messages[0]["content"].startswith("Be brief.")
        assert {message["role"] for message in messages[1:]} <= {"user", "assistant"}
        assert count(context(messages)) + sum(count(message["content"]) for message in messages[1:]) <= 500
        for message in messages[1:]:
            assert message["content"] not in context(messages)
    assert DECISION not in context(await sm.get_messages_for_llm())


async def test_a_whole_request_fits_the_window_when_the_reserve_does() -> None:
    sm = SessionManager(enable_vm=True, vm_config=WorkingSetConfig(max_l0_tokens=4_000, reserved_tokens=2_000))
    count = for_model("gpt-4o").tokenizer
    for number in range(200):
        await sm.user_says(f"{number}?")
        await sm.ai_responds(f"{number}!")
    request = await sm.build_request()
    assert count_messages(count, request["messages"]) + count_tools(count, request["tools"]) <= 4_000
    assert sm.vm is not None
    manifest = sm.vm.build_manifest(VMMode.STRICT)
    assert manifest.not_listed.working_set > 0
    assert len(manifest.available_pages) + manifest.not_listed.available_pages + sm.vm.working_set.l0_count == 400


async def test_the_last_words_are_sent_even_when_they_are_no_page_of_the_prompt() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL)
    large = WORDS * 60
    await sm.user_says(large)
    assert sm.vm is not None
    assert sm.vm.working_set.get_l0_page_ids() == []
    assert (await sm.get_messages_for_llm())[-1] == {"role": "user", "content": large}
    await talk(sm, 1)
    assert large not in json.dumps(await sm.get_messages_for_llm())


async def test_what_the_words_call_for_is_there_before_the_model_asks() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL)
    await sm.user_says(DECISION)
    await talk(sm, 20)
    assert DECISION not in context(await sm.get_messages_for_llm())
    await sm.user_says("What did we decide about signing access tokens?")
    assert DECISION in context(await sm.get_messages_for_llm())
    assert sm.vm is not None
    assert sm.vm.fault_handler.get_metrics().faults_this_turn == 0


async def test_a_models_calls_are_answered_for_the_next_request() -> None:
    sm = SessionManager(enable_vm=True, vm_config=SMALL)
    await sm.user_says(DECISION)
    await talk(sm, 20)
    [found] = (await sm.search_pages("EdDSA", limit=1)).results
    assert found.tier is StorageTier.L2
    result = await sm.process_response(called("page_fault", page_id=found.page_id, target_level=0))
    assert isinstance(result, dict)
    [answer] = result["tool_results"]
    assert json.loads(answer["content"])["page"]["content"] == {"text": DECISION}
    assert DECISION in context(await sm.get_messages_for_llm())
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
    await sm.pin_page("msg_0000")
    await sm.user_says("The press gets to know a week before, on the 7th.")
    await sm.ai_responds("Noted.")
    assert sm.session_id == first_id
    await sm.user_says("And now for something else.")

    assert sm.session_id == sm.vm.session_id != first_id
    assert await sm.get_session_chain() == [first_id, sm.session_id]
    resident = {page.page_id: page for page in sm.vm.get_l0_pages()}
    [summary] = [page for page in resident.values() if page.page_type is PageType.SUMMARY]
    assert set(resident) == {"msg_0000", summary.page_id, "msg_0004"}
    assert "14th of May" in str(summary.content)
    assert summary.provenance == ["msg_0000", "msg_0001", "msg_0002", "msg_0003"]
    assert sm.vm.working_set.is_pinned(summary.page_id)
    [checkpoint_id] = await sm.vm.storage.list_checkpoints()
    assert [page.page_id for page in await sm.vm.storage.restore_checkpoint(checkpoint_id)] == summary.provenance
    messages = await sm.get_messages_for_llm()
    assert messages[1:] == [{"role": "user", "content": "And now for something else."}]
    assert str(summary.content).partition("\n")[0] in messages[0]["content"]
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
    sm = SessionManager(enable_vm=True, vm_config=SMALL)
    await sm.user_says(DECISION)
    checkpoint_id = await sm.checkpoint("decided")
    await talk(sm, 20)
    await sm.restore_checkpoint(checkpoint_id)
    assert sm.vm is not None
    assert [page.content for page in sm.vm.get_l0_pages()] == [DECISION]
    await sm.pin_page("msg_0000")
    await talk(sm, 20)
    assert sm.vm.working_set.is_in_l0("msg_0000")
    await sm.unpin_page("msg_0000")
    await talk(sm, 20)
    assert not sm.vm.working_set.is_in_l0("msg_0000")


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
