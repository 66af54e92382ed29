"""An ablation changes one constant of the default policy, for its block alone."""

import pytest

from bench.quality.ablation import counted, gained, without
from bench.quality.reference_strings import agent_trace

STRINGS = [agent_trace(family, 1) for family in ("loops", "scans", "mixed")]


def test_a_constant_decides_something_and_comes_back() -> None:
    shipped = counted(STRINGS)
    for constant in ("batch value ratio", "periodicity memory", "periodicity power", "reuse odds power", "size prior"):
        with without(constant):
            assert counted(STRINGS) != shipped, constant
    assert counted(STRINGS) == shipped


@pytest.mark.parametrize("faults_more", [0, 3])
def test_a_gain_is_what_faults_more_without_the_constant(faults_more: int) -> None:
    shipped = [(100, 10), (100, 20), (50, 5)]
    gain, low, high = gained(shipped, [(count, faults + faults_more) for count, faults in shipped])
    assert gain == pytest.approx(3 * faults_more / 250)
    assert low <= gain <= high
    assert (low == high) == (faults_more == 0)
