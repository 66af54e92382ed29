"""What a message says of its need for the past."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.recall_intent import (
    CALLING_TURNS,
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
        ("How many stops does the morning tour have?", Cue.RECALL),
        ("which port is free", Cue.RECALL),
        ("Would Caroline rather read Dr. Seuss than a paper?", Cue.RECALL),
        ("还有别的办法吗？", Cue.RECALL),
        ("Can you tell me which port is free?", Cue.RECALL),
        ("Hi again. Can you list what I brought up so far? Five items.", Cue.RECALL),
        ("I am back. Can you summarize how my project went?", Cue.RECALL),
        ("How do I center a box?", Cue.QUESTION),
        ("Could you write the release notes?", Cue.QUESTION),
        ("I moved the box to the left, is that a good idea?", Cue.QUESTION),
        ("Wei moved the box. Is it still in the middle?", Cue.QUESTION),
        ("What is wrong here?\n\n  margin: 0 auto", Cue.QUESTION),
        ("They told us to wait. How long is usual?", Cue.QUESTION),
        ("Can you summarize this?\n\nThe tour has nine stops.", Cue.QUESTION),
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


QUESTIONS = ("Which port is free?", "When does the tour start?", "How many stops are there?", "Does the test pass?")
STATEMENTS = ("The box moved.", "Wei is ill today!", "Here is the log:\n  retry 3 of 5", "Nine stops, two vehicles.")


@given(
    st.sampled_from(QUESTIONS), st.lists(st.sampled_from(STATEMENTS), min_size=1), st.lists(st.sampled_from(STATEMENTS))
)
def test_a_question_calls_for_the_past_when_nothing_stands_beside_it(
    question: str, some: list[str], more: list[str]
) -> None:
    assert cue_of(question) is Cue.RECALL
    assert cue_of("\n".join([*some, question, *more])) <= Cue.QUESTION
    assert cue_of(" ".join([*more, question, *some])) <= Cue.QUESTION
    assert cue_of("\n".join([*some, f"As we decided earlier: {question}"])) is Cue.RECALL


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, CALLING_TURNS - 1))
def test_a_stronger_cue_has_more_room(words: str, budget: int, faults: int, before: int) -> None:
    assert 0 <= recall_room(cue_of(words), budget, faults, before) <= faults
    rooms = [recall_room(cue, budget, faults, before) for cue in (Cue.NONE, Cue.QUESTION, Cue.RECALL)]
    assert rooms == sorted(rooms)


@given(st.lists(st.booleans(), min_size=CALLING_TURNS, max_size=CALLING_TURNS), st.integers(0, 10**6))
def test_turns_share_what_one_call_alone_may_bring_in(calling: list[bool], budget: int) -> None:
    """Of a conversation that calls for the past in the same turns of every `CALLING_TURNS`."""
    faults = 10**9
    calls = sum(calling)
    together = sum(recall_room(Cue.RECALL, budget, faults, calls - 1) for call in calling if call)
    alone = recall_room(Cue.RECALL, budget, faults)
    assert alone - calls < together <= alone or not calls


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
