"""What a message says of its need for the past."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory.cues import (
    READ_CHARS_MAX,
    Cue,
    asks_what_the_model_said,
    cue_of,
    is_standing_wish,
    recall_room,
)


@pytest.mark.parametrize(
    ("words", "cue"),
    [
        ("What did we decide about the message queue?", Cue.RECALL),
        ("Remind me of the retention rule, please", Cue.RECALL),
        ("When did Caroline go to the support group?", Cue.RECALL),
        ("Was haben wir damals vereinbart", Cue.RECALL),
        ("What was vereinbart?", Cue.RECALL),
        ("Коли ми це вирішили?", Cue.RECALL),
        ("之前说过的版本是哪个", Cue.RECALL),
        ("前回の続きです", Cue.RECALL),
        ("How do I center a box?", Cue.QUESTION),
        ("which port is free", Cue.QUESTION),
        ("还有别的办法吗？", Cue.QUESTION),
        ("For the record: we decided on RabbitMQ.", Cue.NONE),
        ("Fix the test in billing and run it.", Cue.NONE),
        ("", Cue.NONE),
    ],
)
def test_words_ask_for_the_past_or_do_not(words: str, cue: Cue) -> None:
    assert cue_of(words) is cue


def test_what_is_pasted_in_the_middle_asks_nothing() -> None:
    log = "ERROR who said that? we decided earlier " * READ_CHARS_MAX
    assert cue_of(f"{'Tidy this. ' * READ_CHARS_MAX}{log}{'Thanks. ' * READ_CHARS_MAX}") is Cue.NONE
    assert cue_of(f"{log}{'. ' * READ_CHARS_MAX}What did we decide?") is Cue.RECALL


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_stronger_cue_has_more_room(words: str, budget: int, faults: int) -> None:
    assert 0 <= recall_room(cue_of(words), budget, faults) <= faults
    rooms = [recall_room(cue, budget, faults) for cue in (Cue.NONE, Cue.QUESTION, Cue.RECALL)]
    assert rooms == sorted(rooms)


@pytest.mark.parametrize(
    ("words", "after_the_model"),
    [
        ("How did you recommend managing the flow of requests?", True),
        ("You said earlier that it is safe.", True),
        ("What was your suggestion for the cache?", True),
        ("Which tools would you suggest?", False),
        ("Can you show me how to do it?", False),
        ("What did I say about the cache?", False),
    ],
)
def test_what_the_model_said_is_not_what_it_should_say(words: str, *, after_the_model: bool) -> None:
    assert asks_what_the_model_said(words) is after_the_model


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ("Always put units last.", True),
        ("Fine. Never use tabs", True),
        ("I'd really prefer SQLite here.", True),
        ("From now on answer in French.", True),
        ("It always rains here.", False),
        ("I never saw that.", False),
    ],
)
def test_standing_wishes(words: str, *, wish: bool) -> None:
    assert is_standing_wish(words) is wish
