"""The log tells what was in context when, as far back as it remembers, and never mixes up two mutations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pagekeeper.memory import Actor, MutationLogLite, MutationType, PageMutation, StorageTier
from tests.unit.memory.pages import page_ids

moves = st.lists(
    st.tuples(page_ids, st.sampled_from(MutationType), st.sampled_from(StorageTier), st.integers(0, 2)), max_size=40
)
Moves = list[tuple[str, MutationType, StorageTier, int]]


def logged(script: Moves, log: MutationLogLite) -> int:
    """Write the moves down, turns going on by the last number of each; the last turn."""
    turn = 0
    for page_id, mutation_type, tier, passed in script:
        turn += passed
        log.append(PageMutation(page_id=page_id, mutation_type=mutation_type, tier_after=tier, turn=turn))
    return turn


@given(moves)
def test_replay_gives_every_turn_as_it_was(script: Moves) -> None:
    log = MutationLogLite()
    last_turn = logged(script, log)
    for turn in range(last_turn + 1):
        tiers: dict[str, StorageTier] = {}
        for mutation in log.get_all_mutations():
            if mutation.turn <= turn:
                tiers[mutation.page_id] = mutation.tier_after
                if mutation.mutation_type is MutationType.DELETE:
                    del tiers[mutation.page_id]
        assert log.replay(turn) == tiers
        assert set(log.get_context_at_turn(turn)) == {page for page, tier in tiers.items() if tier is StorageTier.L0}


@given(moves, st.integers(1, 10))
def test_a_bounded_log_says_what_an_unbounded_one_does_or_nothing(script: Moves, max_entries: int) -> None:
    whole, bounded = MutationLogLite(), MutationLogLite(max_entries=max_entries)
    last_turn = logged(script, whole)
    logged(script, bounded)
    assert len(bounded.get_all_mutations()) == min(len(script), max_entries)
    remembered = 0
    for turn in range(last_turn + 1):
        try:
            assert bounded.replay(turn) == whole.replay(turn)
            assert bounded.get_context_at_turn(turn) == whole.get_context_at_turn(turn)
            remembered += 1
        except LookupError:
            assert remembered == 0, "what is remembered is the end"
    assert remembered >= 1


@given(moves, moves)
def test_a_diff_is_what_makes_one_turn_of_another(script: Moves, more: Moves) -> None:
    log = MutationLogLite()
    last_turn = logged([*script, *more], log)
    for turn in range(last_turn):
        before, after = log.get_context_at_turn(turn), log.get_context_at_turn(last_turn)
        diff = log.diff(turn, last_turn)
        assert (set(before) - set(diff.left)) | set(diff.entered) == set(after)
        assert set(diff.stayed) == set(before) & set(after)


def test_mutations_are_never_mixed_up() -> None:
    """Ids must not be cut so short that they collide."""
    log = MutationLogLite(session_id="s1")
    for turn in range(20_000):
        log.log_create("p1", turn, StorageTier.L0)
    ids = {mutation.mutation_id for mutation in log.get_all_mutations()}
    assert len(ids) == 20_000
    assert min(map(len, ids)) >= 32


def test_a_mutation_is_not_changed_afterwards() -> None:
    said = {"page_id": "p1", "mutation_type": "evict", "tier_before": "L0", "tier_after": "L2", "turn": 5}
    mutation = PageMutation.model_validate(said)
    assert (mutation.tier_before, mutation.tier_after) == (StorageTier.L0, StorageTier.L2)
    with pytest.raises(ValidationError):
        mutation.turn = 6


def test_mutations_are_found_by_what_they_are() -> None:
    log = MutationLogLite(max_entries=1_000)
    log.log_create("a", turn=1, tier="L0", actor=Actor.USER)
    log.log_evict("a", turn=5, tier_before="L0", tier_after="L2", cause="eviction_pressure")
    fault = log.log_fault("a", turn=6, tier_before="L2", tier_after="L0")
    log.append(PageMutation(page_id="b", mutation_type=MutationType.PIN, tier_after=StorageTier.L1, turn=6))
    assert fault.actor is Actor.MODEL
    kinds = [mutation.mutation_type for mutation in log.get_page_history("a")]
    assert kinds == [MutationType.CREATE, MutationType.EVICT, MutationType.FAULT_IN]
    assert [log.get_context_at_turn(turn).l0_pages for turn in (0, 1, 5, 6, 99)] == [[], ["a"], [], ["a"], ["a"]]
    assert [mutation.page_id for mutation in log.get_mutations_in_turn(6)] == ["a", "b"]
    stats = log.get_stats()
    assert (stats["total"], stats["creates"], stats["evictions"], stats.faults, stats.pins) == (4, 1, 1, 1, 1)
    assert (stats.unique_pages, stats["total_mutations"]) == (2, 4)
    with pytest.raises(ValueError, match="max_entries"):
        MutationLogLite(max_entries=0)
