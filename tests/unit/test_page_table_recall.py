"""What page-table answers of a user's words: pages and their worth, and how often lately the past was called for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.recall import BESIDE_SHARE_MIN
from pagekeeper.core.recall_intent import RECALL_TURNS_WINDOW
from pagekeeper.core.search import SessionIndex
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.unit.stack import Replica, Stores, caller, ready

CALL = "What did we decide about the harbour?"


def user(text: str, page_id: str = "") -> page_pb2.PageInput:
    return page_pb2.PageInput(page_id=page_id, text=text, role=page_pb2.MESSAGE_ROLE_USER)


async def answer(replica: Replica, query: str, room_tokens: int = 1_000, **asked: bool) -> table_pb.RecallPagesResponse:
    request = table_pb.RecallPagesRequest(session_id="s1", query=query, room_tokens=room_tokens, **asked)
    return await replica.page_table.recall_pages(caller(), request)


async def full_session() -> Replica:
    """Of forty pages that speak of the harbour, more and more, the last few are resident."""
    replica = Replica(await ready(Stores()))
    await replica.open(max_l0_tokens=512, reserved_tokens=10, pin_last_turns=1)
    for number in range(40):
        await replica.append(user(f"page {number} " + "harbour " * (number // 6) + "filler " * 20, f"p{number}"))
    return replica


@pytest.mark.parametrize("room_tokens", [60, 120, 250])
async def test_what_is_resident_takes_no_room_where_it_has_its_place(room_tokens: int) -> None:
    replica = await full_session()
    resident = (await replica.fold()).working_set

    def others(answered: table_pb.RecallPagesResponse) -> list[page_pb2.Page]:
        return [one.entry.page for one in answered.pages if one.entry.page.page_id not in resident]

    every = others(await answer(replica, "harbour", 100_000, residents_placed=True))
    fitting = others(await answer(replica, "harbour", room_tokens, residents_placed=True))
    sharing = others(await answer(replica, "harbour", room_tokens))
    assert fitting == every[: len(fitting)]
    assert sum(page.representations[-1].size_tokens for page in fitting) <= room_tokens
    assert sum(page.representations[-1].size_tokens for page in every[: len(fitting) + 1]) > room_tokens
    assert sharing == fitting[: len(sharing)]
    assert len(sharing) < len(fitting)


@pytest.mark.parametrize("placed", [True, False])
async def test_what_is_worth_little_beside_the_best_is_left_out_where_residents_have_their_place(placed: bool) -> None:  # noqa: FBT001
    replica = await full_session()
    resident = (await replica.fold()).working_set
    answered = await answer(replica, "harbour page 12", 100_000, residents_placed=placed)
    worth = [one.worth for one in answered.pages if one.entry.page.page_id not in resident]
    assert worth == sorted(worth, reverse=True)
    assert (worth[-1] >= worth[0] * BESIDE_SHARE_MIN) is placed


async def test_turns_that_called_for_the_past_are_counted_but_for_the_one_that_asks() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    for turn in range(RECALL_TURNS_WINDOW + 3):
        await replica.append(user(f"Do you remember item {turn}?" if turn % 4 == 0 else f"Item {turn} is green."))
    await replica.append(user(CALL))
    in_reach = range(4, RECALL_TURNS_WINDOW + 3)
    assert (await answer(replica, CALL)).calls_before == sum(turn % 4 == 0 for turn in in_reach)
    assert (await answer(replica, "harbour")).calls_before == sum(turn % 4 == 0 for turn in in_reach) + 1


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from((CALL, "Do you remember?", "It is green."))), max_size=8))
def test_a_turn_calls_once_however_often_it_asks(said: list[tuple[int, str]]) -> None:
    index = SessionIndex()
    for number, (turn, text) in enumerate(said):
        index.add(f"p{number}", text, turn=turn)
    for since in range(7):
        calling = {turn for turn, text in said if text == "Do you remember?" and turn >= since}
        assert index.recall_turns_since(since, CALL) == len(calling)
