"""A page that is larger than the whole budget is kept, found and read like any other; it is only never resident."""

from collections.abc import Callable

import pytest

from pagekeeper.client import Pagekeeper, Session, assistant, tool_result, user
from pagekeeper.core.errors import FaultTokensExceeded, InvalidField, LevelUnavailable
from pagekeeper.local.stack import LocalStack
from pagekeeper.v1 import page_pb2

pytestmark = pytest.mark.xdist_group("stacks")

LINES = [
    f"Line {number}: the harbour of Lisbon had {number * 7} ships, and the mole was {number} feet.\n"
    for number in range(1_000)
]
TEXT = "".join(LINES)


@pytest.fixture
def stack(stack_of_one: LocalStack) -> LocalStack:
    return stack_of_one


@pytest.fixture
async def session(alice: Pagekeeper) -> Session:
    return await alice.open_session(max_l0_tokens=3_000, max_fault_tokens_per_turn=100_000)


@pytest.mark.parametrize("make", [tool_result, user], ids=["tool_result", "user"])
async def test_it_is_appended_read_and_left_out_of_the_prompt(
    make: Callable[..., page_pb2.PageInput], session: Session
) -> None:
    await session.append(user("Where are we?", page_id="before"))
    (appended,) = (await session.append(make(TEXT, page_id="large"))).pages
    assert not appended.resident
    assert appended.size_tokens > 3_000
    page = await session.page("large")
    assert page.tier != page_pb2.STORAGE_TIER_L0
    prompt = await session.assemble()
    assert prompt.tokens.total <= prompt.tokens.budget == 3_000
    assert "large" not in {page.page_id for page in prompt.pages}
    assert await session.read("large") == TEXT.encode()
    assert await session.read("large", offset=70_000, length=50) == TEXT.encode()[70_000:70_050]
    assert await session.read("large", offset=len(TEXT)) == b""
    with pytest.raises(InvalidField) as beyond:
        await session.read("large", offset=len(TEXT) + 1)
    assert beyond.value.metadata == {"field": "offset"}
    assert (await session.search("harbour of Lisbon"))[0].page_id == "large"
    assert (await session.replay()).matches_served_state


async def test_a_fault_says_that_there_is_no_room_or_brings_a_lower_level(session: Session) -> None:
    await session.append(user("Where are we?"), tool_result(TEXT, page_id="large"))
    with pytest.raises(LevelUnavailable) as caught:
        await session.fault("large", target_level=0)
    assert caught.value.metadata == {"page_id": "large", "level": "0"}
    await session.compress("large")
    levels = {one.level: one.size_tokens for one in (await session.page("large")).representations}
    lowest = max(levels)
    assert lowest > 0
    assert levels[lowest] < 1_000
    faulted = await session.fault("large", target_level=lowest)
    assert (faulted.outcome.level, faulted.outcome.promoted) == (lowest, True)
    prompt = await session.assemble()
    assert "large" in {page.page_id for page in prompt.pages}
    assert prompt.tokens.total <= prompt.tokens.budget
    with pytest.raises(LevelUnavailable):
        await session.fault("large", target_level=0)
    assert "large" in {page.page_id for page in (await session.assemble()).pages}


async def test_a_turns_faults_have_a_limit_in_tokens(alice: Pagekeeper) -> None:
    session = await alice.open_session(max_l0_tokens=3_000, max_fault_tokens_per_turn=50)
    await session.append(user("Where are we?"), tool_result(TEXT, page_id="large"))
    with pytest.raises(FaultTokensExceeded) as caught:
        await session.fault("large")
    assert caught.value.metadata["limit_tokens"] == "50"
    assert int(caught.value.metadata["needed_tokens"]) > 3_000


async def test_a_prompt_with_nothing_but_oversized_pages(session: Session) -> None:
    for number in range(3):
        await session.append(user(TEXT, page_id=f"u{number}"), assistant(TEXT, page_id=f"a{number}"))
    prompt = await session.assemble(user_input="And now?")
    assert prompt.tokens.total <= prompt.tokens.budget
    assert prompt.messages[-1].content.endswith("And now?")

    await session.compress("u0", "a1")
    assert (await session.assemble()).tokens.total <= 3_000
    assert (await session.replay()).matches_served_state
