"""Histories of the whole platform, in which no law may be broken: see `history` for what they are made of."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.history import Outcome, simulate

SEEDS = 220
SEEDS_PER_TEST = 10
TRACE_LINES_MAX = 60


@pytest.fixture(autouse=True)
def _one_collection() -> Iterator[None]:
    """A history leaves a world that is one large cycle: it is collected once, without what was there before."""
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    gc.unfreeze()


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_history_breaks_a_law(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        outcome = simulate(seed)
        assert outcome.violation is None, _told(outcome)


@pytest.mark.parametrize("seed", [3, 1_000_003])
def test_a_seed_repeats_its_history(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert first.trace == second.trace
    assert first.digest == second.digest


def _told(outcome: Outcome) -> str:
    end = "\n".join(outcome.trace[-TRACE_LINES_MAX:])
    return f"{end}\nseed {outcome.seed}: {outcome.violation!r}\nits whole trace: make simulate SEED={outcome.seed}"
