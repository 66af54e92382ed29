"""MemoryManager: what was wrong with the documented system stays right, and a model gets an answer to every call."""

import json
from types import SimpleNamespace

import pytest

from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.memory import (
    ArtifactsBridge,
    CompressionLevel,
    DemandPagingMode,
    FaultPolicy,
    InMemoryBackend,
    MemoryManager,
    MemoryPage,
    StorageTier,
    VMMode,
    WorkingSetConfig,
    event_to_page,
)
from tests.unit.memory.managers import SENTENCES, SMALL, TIGHT, answers, called, filled, small

# What was wrong with the documented system


async def test_a_page_that_is_larger_than_the_prompt_stays_out_of_it_and_sends_nobody_away() -> None:
    memory = small()
    kept = await memory.add_user_message(SENTENCES[0])
    large = memory.create_page("word " * 4_000)
    assert not await memory.add_to_working_set(large)
    assert large.storage_tier is StorageTier.L2
    assert memory.working_set.get_l0_page_ids() == [kept.page_id]
    found = await memory.get_page(large.page_id)
    assert found is not None
    assert found.content == large.content


async def test_what_is_evicted_comes_back_without_anyone_having_given_a_store() -> None:
    memory = small()
    page = await memory.add_user_message(SENTENCES[0])
    assert await memory.evict_page(page.page_id)
    assert not await memory.evict_page(page.page_id)
    result = await memory.handle_fault(page.page_id, CompressionLevel.FULL)
    assert result.page is not None
    assert (result.page.content, result.source_tier) == (SENTENCES[0], StorageTier.L2)
    assert memory.working_set.is_in_l0(page.page_id)


async def test_a_store_that_refuses_a_checkpoint_says_so() -> None:
    class Full(InMemoryBackend):
        """A store without room."""

        async def store(self, *_: object) -> str:
            raise OSError("no space left on device")

    memory = small()
    await memory.configure_bridge(Full())
    page = await memory.add_user_message(SENTENCES[0])
    with pytest.raises(OSError, match="no space"):
        await memory.checkpoint("here")
    assert memory.get_l0_pages() == [page]


async def test_a_checkpoint_in_a_store_is_restored_by_another_memory_which_goes_on() -> None:
    backend = InMemoryBackend()
    memory = small()
    await memory.configure_bridge(backend)
    await filled(memory)
    checkpoint_id = await memory.checkpoint("tonight")
    resident = memory.working_set.get_l0_page_ids()
    await memory.add_user_message("After the checkpoint.")

    tomorrow = small(storage=ArtifactsBridge(backend))
    restored = await tomorrow.restore_checkpoint(checkpoint_id)
    assert [page.page_id for page in restored] == resident
    said = await tomorrow.add_user_message("Good morning.")
    assert said.page_id not in memory.page_table.entries or said.page_id == "p42"
    assert (await tomorrow.search_pages("checkpoint")).results == []
    [found] = (await tomorrow.search_pages("EdDSA", limit=1)).results
    assert found.page_id == "p1"


async def test_a_page_says_the_level_that_it_has() -> None:
    text = " ".join(SENTENCES * 3)
    memory = small()
    page = await memory.add_user_message(text)
    await memory.evict_page(page.page_id)
    [whole] = await answers(memory, ("page_fault", json.dumps({"page_id": page.page_id, "target_level": 2})))
    assert (whole["page"]["level"], whole["page"]["content"]["text"]) == (CompressionLevel.FULL, text)
    assert whole["effects"]["promoted_to_working_set"]
    shorter = await memory.compress_page(page.page_id, CompressionLevel.ABSTRACT)
    assert shorter is not None
    assert shorter.level_after is CompressionLevel.ABSTRACT
    [answer] = await answers(memory, ("page_fault", json.dumps({"page_id": page.page_id, "target_level": 2})))
    assert answer["page"]["level"] == CompressionLevel.ABSTRACT
    assert answer["page"]["content"]["text"] != text
    assert not answer["effects"]["promoted_to_working_set"]


async def test_pages_are_shortened_before_they_leave_and_whole_when_they_come_back() -> None:
    memory = MemoryManager("s", config=WorkingSetConfig(max_l0_tokens=4_000, reserved_tokens=500))
    text = " ".join(SENTENCES * 6)
    for number in range(40):
        await memory.add_user_message(f"{number}: {text}")
    assert memory.metrics.compressions_total > 0
    result = await memory.handle_fault("p1", CompressionLevel.FULL)
    assert result.page is not None
    assert (result.page.content, result.page.compression_level) == (f"0: {text}", CompressionLevel.FULL)


async def test_the_pre_pass_leaves_the_turns_faults_to_the_model() -> None:
    memory = small(fault_policy=FaultPolicy(max_faults_per_turn=2))
    first = await filled(memory)
    memory.new_turn()
    spent = await memory.handle_fault("p3", CompressionLevel.FULL)
    assert spent.success
    brought = await memory.demand_pre_pass("What did we decide about EdDSA and access tokens?")
    assert first.page_id in brought
    assert len(brought) <= 2
    assert memory.fault_metrics().faults_remaining == 1
    assert memory.working_set.is_in_l0(first.page_id)


async def test_a_page_that_arrives_pinned_is_pinned() -> None:
    memory = small()
    page = MemoryPage(page_id="mine", content=SENTENCES[0], pinned=True)
    assert await memory.add_to_working_set(page)
    for number in range(40):
        await memory.add_user_message(f"{number}: {' '.join(SENTENCES[1:])}")
    assert memory.working_set.is_in_l0("mine")
    assert not await memory.evict_page("mine")


def test_two_events_are_two_pages_however_alike_their_ids_begin() -> None:
    first, second = (event_to_page("Hello.", "user", "s", event_id=f"abcdef12-{number}") for number in range(2))
    assert first.page_id != second.page_id
    assert first.metadata["role"] == "user"
    assert event_to_page("Hello.", "user", "s").page_id != event_to_page("Hello.", "user", "s").page_id


async def test_what_was_just_faulted_in_is_not_the_next_to_go() -> None:
    memory = small()
    first = await filled(memory)
    memory.new_turn()
    await memory.handle_fault(first.page_id, CompressionLevel.FULL)
    for number in range(4):
        await memory.add_assistant_message(f"{number}. {' '.join(SENTENCES[1:])}")
    assert memory.working_set.is_in_l0(first.page_id)


# The model's calls


async def test_every_call_is_answered_whatever_is_wrong_with_it() -> None:
    memory = small(fault_policy=FaultPolicy(max_faults_per_turn=1))
    first = await filled(memory)
    one, other = [entry.page_id for entry in memory.page_table.get_by_tier(StorageTier.L2)][-2:]
    found, fault, limit, missing, broken = await answers(
        memory,
        ("search_pages", json.dumps({"query": "EdDSA", "limit": 2})),
        ("page_fault", json.dumps({"page_id": one, "target_level": 0})),
        ("page_fault", json.dumps({"page_id": other, "target_level": 0})),
        ("page_fault", json.dumps({"page_id": "nobody"})),
        ("page_fault", "{"),
    )
    assert found["results"][0]["page_id"] == first.page_id
    assert fault["page"]["content"]["text"].endswith(SENTENCES[-1])
    assert (limit["error"], limit["page_id"]) == ("fault_limit_reached", other)
    assert (missing["error"], broken["error"]) == ("page_not_found", "invalid_arguments")
    memory.new_turn()
    [again] = await answers(memory, ("page_fault", json.dumps({"page_id": other, "target_level": 0})))
    assert "page" in again


async def test_calls_of_the_applications_own_tools_are_left_to_it() -> None:
    memory = small()
    await memory.add_user_message(SENTENCES[0])
    asked = called(("get_weather", '{"city":"Oslo"}'), ("search_pages", '{"query":"EdDSA"}'))
    result = await memory.process_response(asked)
    assert isinstance(result, dict)
    assert [message["tool_call_id"] for message in result["tool_results"]] == ["call_1"]
    assert [(call.call_id, call.name) for call in result["tool_calls"]] == [("call_0", "get_weather")]


async def test_a_page_that_is_there_costs_no_fault() -> None:
    memory = small(fault_policy=FaultPolicy(max_faults_per_turn=0))
    page = await memory.add_user_message(SENTENCES[0])
    [answer] = await answers(memory, ("page_fault", json.dumps({"page_id": page.page_id})))
    assert answer["page"]["tier"] == "L0"
    assert not (await memory.handle_fault("nobody")).success


async def test_an_answer_is_the_text() -> None:
    message = SimpleNamespace(content="EdDSA.", tool_calls=None)
    response = SimpleNamespace(choices=[SimpleNamespace(message=message)])
    assert await small().process_response(response) == "EdDSA."


# Requests


async def test_a_request_says_nothing_twice() -> None:
    memory = small()
    await memory.add_user_message(SENTENCES[0])
    await memory.add_user_message("Which algorithm?")
    request = memory.build_request("Which algorithm?")
    developer, user = request["messages"]
    assert SENTENCES[0] in developer["content"]
    assert "Which algorithm?" not in developer["content"]
    assert user["content"].endswith("</VM:STATUS>\n\nWhich algorithm?")
    assert {tool["function"]["name"] for tool in request["tools"]} == {"page_fault", "search_pages"}


async def test_modes_decide_about_tools_and_who_pages() -> None:
    assert "tools" not in small(mode=VMMode.PASSIVE).build_request("Hello.")
    assert small().build_context(mode=VMMode.PASSIVE).tools == []
    runtime = small(demand_paging=DemandPagingMode.RUNTIME)
    first = await filled(runtime)
    assert runtime.build_context().tools == []
    assert not runtime.build_context().manifest.policies.faults_allowed
    assert first.page_id in await runtime.demand_pre_pass("What did we decide about EdDSA?")
    model = small(demand_paging=DemandPagingMode.MODEL)
    await filled(model)
    assert await model.demand_pre_pass("What did we decide about EdDSA?") == []


async def test_a_context_fits_its_budget() -> None:
    memory = small()
    await filled(memory)
    whole, part = memory.build_context(), memory.build_context(token_budget=700)
    assert part.packed_context.tokens_est < whole.packed_context.tokens_est
    assert part.packed_context.pages_omitted
    assert not whole.packed_context.pages_omitted
    with pytest.raises(BudgetTooSmall) as refused:
        memory.build_context(token_budget=100)
    assert refused.value.needed_tokens > 300


async def test_the_manifest_offers_what_is_not_shown_with_a_hint_and_counts_what_it_has_no_room_for() -> None:
    memory = small(TIGHT)
    away = await memory.add_user_message(SENTENCES[0])
    await memory.evict_page(away.page_id)
    shown = await memory.add_user_message(SENTENCES[1])
    manifest = memory.build_context().manifest
    assert [entry.page_id for entry in manifest.working_set] == [shown.page_id]
    [offered] = manifest.available_pages
    assert (offered.page_id, offered.hint, manifest.pressure) == (away.page_id, SENTENCES[0], "low")
    for number in range(60):
        await memory.add_user_message(f"{number}: {' '.join(SENTENCES[1:])}")
    manifest = memory.build_context().manifest
    assert manifest.not_listed.available_pages > 0
    assert len(manifest.working_set) + manifest.not_listed.available_pages + len(manifest.available_pages) >= 40


# The guide's own classes, over this one


async def test_a_subclass_sees_pages_come_and_go() -> None:
    class Tracing(MemoryManager):
        """Counts who came and who left."""

        came = left = 0

        async def add_user_message(self, content: str) -> MemoryPage:
            page = await super().add_user_message(content)
            self.came += page.storage_tier is StorageTier.L0
            return page

        async def check_and_evict(self) -> list[str]:
            left = await super().check_and_evict()
            self.left += len(left)
            return left

    memory = Tracing("s", config=SMALL)
    for number in range(40):
        await memory.add_user_message(f"{number}: {' '.join(SENTENCES[1:])}")
        await memory.check_and_evict()
    assert memory.came == 40
    assert memory.came - memory.working_set.l0_count == memory.metrics.evictions_total
    assert await memory.check_and_evict() == []


async def test_a_segment_is_ended_by_hand_from_the_parts() -> None:
    memory = small()
    for text in SENTENCES:
        await memory.add_user_message(text)
    pages = memory.get_l0_pages()
    for page in pages:
        memory.working_set.remove_from_l0(page.page_id, page)
    summary = MemoryPage(page_id="summary_01", content="Tokens, ports and dates.", metadata={"type": "summary"})
    assert await memory.add_to_working_set(summary)
    assert [page.page_id for page in memory.get_l0_pages()] == ["summary_01"]
    assert 'S (summary_01): "Tokens, ports and dates."' in memory.build_context().developer_message
    brought = await memory.handle_fault(pages[0].page_id, CompressionLevel.FULL)
    assert brought.page is not None
    assert (brought.page.content, brought.source_tier) == (SENTENCES[0], StorageTier.L2)
    with pytest.raises(TypeError, match="evict_page"):
        memory.page_table.update_location(pages[0].page_id, tier=StorageTier.L2)
