"""MemoryManager's pages: pinned, restored, logged, fetched ahead, updated and deleted."""

import pytest

from pagekeeper.core.errors import CheckpointNotFound, InvalidField, PageNotFound
from pagekeeper.memory import (
    CompressionLevel,
    MemoryManager,
    MessageRole,
    Modality,
    PageType,
    StorageTier,
)
from tests.unit.memory.managers import SENTENCES, SMALL, answers, filled, small


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
    history = [mutation.mutation_type.value for mutation in memory.mutation_log.get_page_history(page.page_id)]
    assert history == ["create", "evict", "fault_in"]
    assert memory.mutation_log.get_context_at_turn(1) == [page.page_id]
    assert memory.mutation_log.get_context_at_turn(2) == []


async def test_a_guess_comes_true_when_its_page_is_used_and_not_when_it_is_asked_for_again() -> None:
    memory = small()
    first = await filled(memory)
    memory.set_last_segment_summary(first.page_id)
    memory.new_turn()
    assert first.page_id in await memory.prefetch()
    await memory.handle_fault(first.page_id)
    assert memory.get_stats().prefetcher.hit_rate == 0
    await memory.add_assistant_message(f"EdDSA. [ref: {first.page_id}]")
    assert memory.get_stats().prefetcher.hit_rate > 0


async def test_what_was_used_before_a_tool_is_fetched_for_its_next_call() -> None:
    memory = small()
    first = await filled(memory)
    memory.new_turn()
    await memory.handle_fault(first.page_id, CompressionLevel.FULL)
    memory.record_tool_call("sign")
    await memory.evict_page(first.page_id)
    memory.new_turn()
    assert first.page_id in await memory.prefetch()


async def test_what_a_tool_did_is_an_artifact_and_data_when_it_is_json() -> None:
    memory = small()
    data = await memory.add_message(MessageRole.TOOL, '{"time": "12:00"}')
    words = await memory.add_message(MessageRole.TOOL, "noon")
    assert (data.page_type, data.modality, words.modality) == (PageType.ARTIFACT, Modality.STRUCTURED, Modality.TEXT)
    assert 'T (p1): {"time":"12:00"}' in memory.build_context().developer_message


async def test_a_page_has_an_id_that_a_model_can_name_and_its_place_keeps_its_last_words() -> None:
    memory = small()
    for page_id in ("mine", "a/b", "user:1@example.com"):
        memory.create_page("Hello.", page_id=page_id)
    memory.create_page("Goodbye.", page_id="mine")
    context = memory.build_context().packed_context.content
    assert context.splitlines() == ['A (mine): "Goodbye."', 'A (a/b): "Hello."', 'A (user:1@example.com): "Hello."']
    [answer] = await answers(memory, ("page_fault", '{"page_id":"a/b"}'))
    assert answer["page"]["content"] == {"text": "Hello."}
    for page_id in ("not mine", "a)b", "x" * 65):
        with pytest.raises(InvalidField, match="page_id"):
            memory.create_page("Hello.", page_id=page_id)


async def test_a_page_is_updated_in_its_place_and_deleted() -> None:
    memory = small()
    first, second = await memory.add_user_message("The port is 80."), await memory.add_assistant_message("Noted.")
    memory.update_page(first.page_id, "The port is 8080.")
    lines = memory.build_context().packed_context.content.splitlines()
    assert lines == [f'U ({first.page_id}): "The port is 8080."', f'A ({second.page_id}): "Noted."']
    assert memory.delete_page(first.page_id)
    assert not memory.delete_page(first.page_id)
    assert (await memory.search_pages("port")).results == []
    with pytest.raises(PageNotFound):
        memory.update_page(first.page_id, "The port is 443.")


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
    memory.update_session_id("other")
    assert memory.session_id == "other"
