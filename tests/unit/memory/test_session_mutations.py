"""The mutation log of a session says of every turn what its prompt held, and stays bounded."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import RevisionNotFound
from pagekeeper.memory import MemoryManager, MutationType, StorageTier
from pagekeeper.memory.session_views import MUTATIONS_MAX
from tests.unit.memory.histories import SMALL, STEPS, History, Step


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=25))
def test_every_turn_is_told_as_it_was(steps: list[Step]) -> None:
    """Contexts are those that were seen, a diff is their difference, and replay gives every page's tier."""

    async def live() -> tuple[MemoryManager, dict[int, list[str]], dict[int, dict[str, StorageTier]]]:
        history = History(MemoryManager("s", config=SMALL))
        memory = history.memory
        resident: dict[int, list[str]] = {}
        tiers: dict[int, dict[str, StorageTier]] = {}
        for step in steps:
            await history.step(*step)
            resident[memory.session.turn] = memory.working_set.get_l0_page_ids()
            session = memory.session
            tiers[session.turn] = {page.page_id: session.tier(page) for page in session.mapped_pages()}
        return memory, resident, tiers

    memory, resident, tiers = asyncio.run(live())
    log = memory.mutation_log
    for turn, page_ids in resident.items():
        assert log.get_context_at_turn(turn) == page_ids
        assert log.replay(turn) == tiers[turn] == log.replay(turn)
        for later, now_ids in resident.items():
            diff = log.diff(turn, later)
            assert set(diff.left) == set(page_ids) - set(now_ids)
            assert set(diff.entered) == set(now_ids) - set(page_ids)
            assert set(diff.stayed) == set(now_ids) & set(page_ids)
    with pytest.raises(RevisionNotFound):
        log.get_context_at_turn(memory.session.turn + 1)


async def test_mutations_are_bounded_and_contexts_are_not_forgotten_with_them() -> None:
    memory = MemoryManager("s", config=SMALL)
    page = await memory.add_user_message("The gateway listens on port 8080.")
    first = memory.session.turn
    for _ in range(MUTATIONS_MAX // 2 + 1):
        memory.pin_page(page.page_id)
        memory.unpin_page(page.page_id)
    remembered = memory.mutation_log.get_all_mutations()
    assert len(remembered) == MUTATIONS_MAX
    assert MutationType.CREATE not in {mutation.mutation_type for mutation in remembered}
    assert memory.mutation_log.get_context_at_turn(first) == [page.page_id]
