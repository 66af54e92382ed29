"""Five thousand inputs that are made to break the gateway: see `fuzz` for the law, and `make fuzz` for more of them."""

import pytest

from tests.integration.fuzz import fuzz

INPUTS = 5_000
PARTS = 5
SEED = 20_261_130


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_input_breaks_the_gateway(part: int) -> None:
    count = INPUTS // PARTS
    found = await fuzz(count, SEED, part * count)
    assert not found.violations
    assert found.inputs == count
    assert found.answers["OK"] > count // 20, "hardly an input gets far"
