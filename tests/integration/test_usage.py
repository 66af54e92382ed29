"""What a provider counted, through the public API: prompts keep to it from then on."""

import pytest

from pagekeeper.client import Pagekeeper, assistant, user
from pagekeeper.core.usage import REPORTS_TO_SHRINK
from pagekeeper.runtime.tokens import family_of

pytestmark = pytest.mark.xdist_group("stacks")

MODEL = "claude-sonnet-4-5"
BUDGET_TOKENS = 3_000


async def test_a_prompt_uses_the_room_that_reports_leave_it(alice: Pagekeeper) -> None:
    stated = family_of(MODEL).margin_percent
    session = await alice.open_session(model=MODEL)
    for number in range(40):
        await session.append(assistant(f"Order {number} went out. " + "It was a quiet day at the bakery. " * 9))
    await session.append(user("What went out?"))
    first = await session.assemble(budget_tokens=BUDGET_TOKENS)
    assert (first.tokens.margin_percent, first.tokens.exact) == (stated, False)
    margins = []
    for _ in range(REPORTS_TO_SHRINK):
        prompt = await session.assemble(budget_tokens=BUDGET_TOKENS)
        margins.append(await session.report_usage(prompt, prompt.tokens.counted * 12 // 10))
    assert margins == [stated] * (REPORTS_TO_SHRINK - 1) + [130]
    later = await session.assemble(budget_tokens=BUDGET_TOKENS)
    assert later.tokens.margin_percent == 130
    assert later.tokens.counted > first.tokens.counted
    assert later.tokens.counted * 130 <= later.tokens.total * 100 <= BUDGET_TOKENS * 100
    assert await session.report_usage(later, later.tokens.counted * 2) == 210
    assert (await session.assemble(budget_tokens=BUDGET_TOKENS)).tokens.counted < first.tokens.counted


async def test_an_openai_model_is_exact_until_a_report_exceeds_it(alice: Pagekeeper) -> None:
    session = await alice.open_session(model="gpt-4o")
    await session.append(user("Hello. " * 200))
    prompt = await session.assemble()
    assert (prompt.tokens.exact, prompt.tokens.counted) == (True, prompt.tokens.total)
    assert await session.report_usage(prompt, prompt.tokens.counted) == 100
    assert (await session.assemble()).tokens.exact
    assert await session.report_usage(prompt, prompt.tokens.counted + 1) > 100
    assert not (await session.assemble()).tokens.exact
