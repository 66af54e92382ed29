"""MemoryManager: what was wrong with the documented system stays right, and a model gets an answer to every call."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pagekeeper.core.errors import CheckpointNotFound, InvalidField
from pagekeeper.memory import (
    CompressionLevel,
    CompressorRegistry,
    DemandPagingMode,
    FaultPolicy,
    InMemoryBackend,
    MemoryManager,
    MemoryPage,
    MessageRole,
    Modality,
    PageType,
    StorageTier,
    VMMode,
    WorkingSetConfig,
    event_to_page,
)

SENTENCES = (
    "We decided to sign access tokens with EdDSA in March 2026.",
    "The deadline for the ledger is the 14th of May.",
    "Thanks a lot, that is great!",
    "The gateway listens on port 8080 and the proxy in front of it on 443.",
    "Nobody remembers who named the staging server Havenbrot.",
)
SMALL = WorkingSetConfig(max_l0_tokens=400, reserved_tokens=40)


TIGHT = WorkingSetConfig(max_l0_tokens=400, reserved_tokens=40, target_utilization=1.0)
"""Evicts no more than it has to, so it is always full."""


def small(config: WorkingSetConfig = SMALL, **settings: Any) -> MemoryManager:  # noqa: ANN401 - as it has them
    return MemoryManager("s", config=config, **settings)


async def filled(memory: MemoryManager, messages: int = 40) -> MemoryPage:
    """The first of so many messages, all different; it is not in the prompt any more."""
    first = await memory.add_user_message(SENTENCES[0])
    for number in range(messages):
        await memory.add_user_message(f"{number}: {' '.join(SENTENCES[1:])}")
    assert not memory.working_set.is_in_l0(first.page_id)
    return first


def called(*calls: tuple[str, str]) -> SimpleNamespace:
    """A response whose message makes these calls, of names and arguments as a model wrote them."""
    tool_calls = [
        SimpleNamespace(id=f"call_{number}", function=SimpleNamespace(name=name, arguments=arguments))
        for number, (name, arguments) in enumerate(calls)
    ]
    return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=None, tool_calls=tool_calls))])


async def answers(memory: MemoryManager, *calls: tuple[str, str]) -> list[dict[str, Any]]:
    result = await memory.process_response(called(*calls))
    assert isinstance(result, dict)
    assert [made["id"] for made in result["assistant_message"]["tool_calls"]] == [
        message["tool_call_id"] for message in result["tool_results"]
    ]
    return [json.loads(message["content"]) for message in result["tool_results"]]


# What was wrong with the documented system


async def test_a_page_that_is_larger_than_the_prompt_stays_out_of_it_and_sends_nobody_away() -> None:
    memory = small()
    kept = await memory.add_user_message(SENTENCES[0])
    large = memory.create_page("word " * 4_000)
    assert not await memory.add_to_working_set(large)
    assert large.storage_tier is StorageTier.L1
    assert memory.working_set.get_l0_page_ids() == [kept.page_id]
    assert await memory.get_page(large.page_id) is large


@pytest.mark.parametrize("tier", [StorageTier.L2, StorageTier.L3, StorageTier.L4])
async def test_what_is_evicted_comes_back_without_anyone_having_given_a_store(tier: StorageTier) -> None:
    memory = small()
    page = await memory.add_user_message(SENTENCES[0])
    assert await memory.evict_page(page.page_id, tier)
    result = await memory.handle_fault(page.page_id, CompressionLevel.FULL)
    assert result.page is not None
    assert (result.page.content, result.source_tier) == (SENTENCES[0], tier)
    assert memory.working_set.is_in_l0(page.page_id)


async def test_a_page_leaves_only_when_it_is_stored() -> None:
    class Full(InMemoryBackend):
        """A store without room."""

        async def store(self, *_: object) -> str:
            raise OSError("no space left on device")

    memory = small()
    await memory.configure_bridge(Full())
    page = await memory.add_user_message(SENTENCES[0])
    with pytest.raises(OSError, match="no space"):
        await memory.evict_page(page.page_id)
    assert memory.get_l0_pages() == [page]


async def test_another_store_takes_over_what_was_only_stored() -> None:
    memory, backend = small(), InMemoryBackend()
    page = await memory.add_user_message(SENTENCES[0])
    await memory.evict_page(page.page_id, StorageTier.L3)
    await memory.configure_bridge(backend)
    assert len(backend.pages) == 1
    found = await memory.get_page(page.page_id)
    assert found is not None
    assert found.content == SENTENCES[0]


async def test_a_page_says_the_level_that_it_has() -> None:
    text = " ".join(SENTENCES * 3)
    for registry, expected in (
        (None, CompressionLevel.FULL),
        (CompressorRegistry.default(), CompressionLevel.ABSTRACT),
    ):
        memory = small(compressor_registry=registry)
        page = await memory.add_user_message(text)
        await memory.evict_page(page.page_id)
        [answer] = await answers(memory, ("page_fault", json.dumps({"page_id": page.page_id, "target_level": 2})))
        assert answer["page"]["level"] == expected
        assert (answer["page"]["content"]["text"] == text) is (expected is CompressionLevel.FULL)
        assert answer["effects"]["promoted_to_working_set"]


async def test_pages_are_shortened_before_they_leave_and_whole_when_they_come_back() -> None:
    memory = small(compressor_registry=CompressorRegistry.default())
    first = await filled(memory)
    assert memory.metrics.compressions_total > 0
    result = await memory.handle_fault(first.page_id, CompressionLevel.FULL)
    assert result.page is not None
    assert (result.page.content, result.page.compression_level) == (SENTENCES[0], CompressionLevel.FULL)


async def test_the_pre_pass_leaves_the_turns_faults_to_the_model() -> None:
    memory = small(fault_policy=FaultPolicy(max_faults_per_turn=2))
    first = await filled(memory)
    memory.new_turn()
    spent = await memory.handle_fault("msg_0002", CompressionLevel.FULL)
    assert spent.success
    brought = await memory.demand_pre_pass("What did we decide about EdDSA and access tokens?")
    assert first.page_id in brought
    assert len(brought) <= 2
    assert memory.fault_handler.get_metrics().faults_remaining == 1
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
    memory = small(TIGHT, fault_policy=FaultPolicy(max_faults_per_turn=1))
    first = await filled(memory)
    found, fault, limit, missing, unknown, broken = await answers(
        memory,
        ("search_pages", json.dumps({"query": "EdDSA", "limit": 2})),
        ("page_fault", json.dumps({"page_id": "msg_0001", "target_level": 0})),
        ("page_fault", json.dumps({"page_id": "msg_0002", "target_level": 0})),
        ("page_fault", json.dumps({"page_id": "nobody"})),
        ("rm -rf", "{}"),
        ("page_fault", "{"),
    )
    assert found["results"][0]["page_id"] == first.page_id
    assert fault["page"]["content"] == {"text": f"0: {' '.join(SENTENCES[1:])}"}
    assert fault["effects"]["evictions"]
    assert (limit["error"], limit["page_id"]) == ("fault_limit_reached", "msg_0002")
    assert "deadline for the ledger" in limit["message"]
    assert (missing["error"], unknown["error"], broken["error"]) == (
        "page_not_found",
        "unknown_tool",
        "invalid_arguments",
    )
    memory.new_turn()
    [again] = await answers(memory, ("page_fault", json.dumps({"page_id": "msg_0002", "target_level": 0})))
    assert "page" in again


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
    assert user == {"role": "user", "content": "Which algorithm?"}
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


async def test_a_context_fits_its_budget_and_is_packed_once() -> None:
    memory = small()
    await filled(memory)
    whole, part = memory.build_context(), memory.build_context(token_budget=120)
    assert part.packed_context.tokens_est <= 120 < whole.packed_context.tokens_est
    assert part.packed_context.pages_omitted
    assert memory.build_context().packed_context is whole.packed_context
    [page, *_] = memory.get_l0_pages()
    page.content = "Something else."
    assert "Something else." in memory.build_context().developer_message


async def test_the_manifest_offers_what_is_not_shown_with_a_hint_and_counts_what_it_has_no_room_for() -> None:
    memory = small(TIGHT)
    away = await memory.add_user_message(SENTENCES[0])
    await memory.evict_page(away.page_id)
    shown = await memory.add_user_message(SENTENCES[1])
    manifest = memory.build_context().manifest
    assert [entry.page_id for entry in manifest.working_set] == [shown.page_id]
    [offered] = manifest.available_pages
    assert (offered.page_id, offered.hint, manifest.pressure) == (away.page_id, SENTENCES[0], "low")
    await filled(memory)
    manifest = memory.build_context().manifest
    assert len(manifest.working_set) + manifest.not_listed.working_set == memory.working_set.l0_count
    assert manifest.not_listed.available_pages > 0
    assert manifest.pressure == "high"


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
    checkpoint_id = await memory.storage.checkpoint(pages=pages, name="segment_1")
    for page in pages:
        artifact_id = await memory.storage.store_page(page)
        memory.page_table.update_location(page.page_id, tier=StorageTier.L2, artifact_id=artifact_id)
        memory.working_set.remove_from_l0(page.page_id, page)
    summary = MemoryPage(page_id="summary_01", content="Tokens, ports and dates.", metadata={"type": "summary"})
    assert await memory.add_to_working_set(summary)
    assert [page.page_id for page in memory.get_l0_pages()] == ["summary_01"]
    assert 'S (summary_01): "Tokens, ports and dates."' in memory.build_context().developer_message
    brought = await memory.handle_fault(pages[0].page_id, CompressionLevel.FULL)
    assert brought.page is not None
    assert (brought.page.content, brought.source_tier) == (SENTENCES[0], StorageTier.L2)
    assert len(await memory.storage.restore_checkpoint(checkpoint_id)) == len(SENTENCES)


# Everything else


async def test_a_segments_end_leaves_what_is_pinned_and_what_the_conversation_stands_on() -> None:
    memory = small()
    system = await memory.add_message(MessageRole.SYSTEM, "You are the scribe.")
    memory.new_turn()
    said = await memory.add_user_message(SENTENCES[0])
    claim = memory.create_page("We sign with EdDSA.", page_type=PageType.CLAIM)
    pinned = await memory.add_user_message(SENTENCES[1])
    await memory.add_to_working_set(claim)
    memory.pin_page(pinned.page_id)
    assert await memory.evict_segment_pages() == [said.page_id]
    assert set(memory.working_set.get_l0_page_ids()) == {system.page_id, claim.page_id, pinned.page_id}
    memory.unpin_page(pinned.page_id)
    assert pinned.page_id in await memory.evict_segment_pages(StorageTier.L3)


async def test_a_checkpoint_brings_back_what_was_in_the_prompt() -> None:
    memory = small()
    page = await memory.add_user_message(SENTENCES[0])
    checkpoint_id = await memory.checkpoint("before")
    await filled(memory)
    restored = await memory.restore_checkpoint(checkpoint_id)
    assert [one.page_id for one in restored] == memory.working_set.get_l0_page_ids() == [page.page_id]
    with pytest.raises(CheckpointNotFound):
        await memory.restore_checkpoint("checkpoint_99")


async def test_the_log_knows_who_was_where() -> None:
    memory = small()
    page = await memory.add_user_message(SENTENCES[0])
    memory.new_turn()
    await memory.evict_page(page.page_id)
    memory.new_turn()
    await memory.handle_fault(page.page_id)
    history = [mutation.mutation_type.value for mutation in memory.mutation_log.get_history(page.page_id)]
    assert history == ["create", "evict", "fault_in"]
    assert memory.mutation_log.get_context_at_turn(1) == [page.page_id]
    assert memory.mutation_log.get_context_at_turn(2) == []


async def test_what_is_likely_is_fetched_and_counted() -> None:
    memory = small()
    first = await filled(memory)
    memory.set_last_segment_summary(first.page_id)
    assert first.page_id in await memory.prefetch()
    await memory.handle_fault(first.page_id)
    assert memory.get_stats().prefetcher.hit_rate > 0


async def test_what_a_tool_did_is_an_artifact_and_data_when_it_is_json() -> None:
    memory = small()
    data = await memory.add_message(MessageRole.TOOL, '{"time": "12:00"}')
    words = await memory.add_message(MessageRole.TOOL, "noon")
    assert (data.page_type, data.modality, words.modality) == (PageType.ARTIFACT, Modality.STRUCTURED, Modality.TEXT)
    assert 'T (msg_0000): {"time":"12:00"}' in memory.build_context().developer_message


def test_a_page_has_an_id_that_a_model_can_name_and_no_other_page_has() -> None:
    memory = small()
    memory.create_page("Hello.", page_id="mine")
    for page_id in ("mine", "not mine", "a/b"):
        with pytest.raises(InvalidField, match="page_id"):
            memory.create_page("Hello.", page_id=page_id)


async def test_a_tokenizers_count_is_the_prompts() -> None:
    memory = MemoryManager("s", config=SMALL, count=lambda text: len(text.split()))
    await memory.add_user_message("one two three")
    assert memory.working_set.tokens_used == memory.build_context().packed_context.tokens_est == 5


async def test_a_policy_of_the_core_is_had_by_name() -> None:
    memory = small(eviction_policy="lru/1")
    await filled(memory)
    with pytest.raises(InvalidField, match="eviction_policy"):
        small(eviction_policy="none/1")


async def test_it_says_how_it_is() -> None:
    memory = small()
    await filled(memory)
    stats, metrics = memory.get_stats(), memory.metrics
    assert stats["session_id"] == memory.session_id
    assert metrics.tokens_in_working_set == stats.working_set.tokens_used > 0
    assert metrics.evictions_total > 0
    assert sum(metrics.pages_by_tier.values()) == stats.pages_in_store == 41
    assert memory.combined.lookup("msg_0000") is memory.page_table.lookup("msg_0000")
    assert memory.tlb.get_stats().misses == 1
    memory.update_session_id("other")
    assert memory.session_id == "other"
