"""What a message says of its need for the past."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.recall_intent import (
    READ_CHARS_MAX,
    RECALL_TURNS_WINDOW,
    RecallIntent,
    asks_what_the_model_said,
    is_standing_wish,
    recall_intent_of,
    recall_room,
)


@pytest.mark.parametrize(
    ("words", "cue"),
    [
        ("What did we decide about the message queue?", RecallIntent.RECALL),
        ("Remind me of the retention rule, please", RecallIntent.RECALL),
        ("When did Caroline go to the support group?", RecallIntent.RECALL),
        ("Was haben wir damals vereinbart", RecallIntent.RECALL),
        ("What was vereinbart?", RecallIntent.RECALL),
        ("Коли ми це вирішили?", RecallIntent.RECALL),
        ("之前说过的版本是哪个", RecallIntent.RECALL),
        ("前回の続きです", RecallIntent.RECALL),
        ("How many stops does the morning tour have?", RecallIntent.RECALL),
        ("which port is free", RecallIntent.RECALL),
        ("Would Caroline rather read Dr. Seuss than a paper?", RecallIntent.RECALL),
        ("还有别的办法吗？", RecallIntent.RECALL),
        ("Can you tell me which port is free?", RecallIntent.RECALL),
        ("Hi again. Can you list what I brought up so far? Five items.", RecallIntent.RECALL),
        ("I am back. Can you summarize how my project went?", RecallIntent.RECALL),
        ("How do I center a box?", RecallIntent.QUESTION),
        ("Could you write the release notes?", RecallIntent.QUESTION),
        ("I moved the box to the left, is that a good idea?", RecallIntent.QUESTION),
        ("Wei moved the box. Is it still in the middle?", RecallIntent.QUESTION),
        ("What is wrong here?\n\n  margin: 0 auto", RecallIntent.QUESTION),
        ("They told us to wait. How long is usual?", RecallIntent.QUESTION),
        ("Can you summarize this?\n\nThe tour has nine stops.", RecallIntent.QUESTION),
        ("For the record: we decided on RabbitMQ.", RecallIntent.NONE),
        ("Fix the test in billing and run it.", RecallIntent.NONE),
        ("", RecallIntent.NONE),
    ],
)
def test_words_ask_for_the_past_or_do_not(words: str, cue: RecallIntent) -> None:
    assert recall_intent_of(words) is cue


def test_what_is_pasted_in_the_middle_asks_nothing() -> None:
    log = "ERROR who said that? we decided earlier " * READ_CHARS_MAX
    assert recall_intent_of(f"{'Tidy this. ' * READ_CHARS_MAX}{log}{'Thanks. ' * READ_CHARS_MAX}") is RecallIntent.NONE
    assert recall_intent_of(f"{log}{'. ' * READ_CHARS_MAX}What did we decide?") is RecallIntent.RECALL


QUESTIONS = ("Which port is free?", "When does the tour start?", "How many stops are there?", "Does the test pass?")
STATEMENTS = ("The box moved.", "Wei is ill today!", "Here is the log:\n  retry 3 of 5", "Nine stops, two vehicles.")


@given(
    st.sampled_from(QUESTIONS), st.lists(st.sampled_from(STATEMENTS), min_size=1), st.lists(st.sampled_from(STATEMENTS))
)
def test_a_question_calls_for_the_past_when_nothing_stands_beside_it(
    question: str, some: list[str], more: list[str]
) -> None:
    assert recall_intent_of(question) is RecallIntent.RECALL
    assert recall_intent_of("\n".join([*some, question, *more])) <= RecallIntent.QUESTION
    assert recall_intent_of(" ".join([*more, question, *some])) <= RecallIntent.QUESTION
    assert recall_intent_of("\n".join([*some, f"As we decided earlier: {question}"])) is RecallIntent.RECALL


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, RECALL_TURNS_WINDOW - 1))
def test_a_stronger_cue_has_more_room(words: str, budget: int, faults: int, before: int) -> None:
    assert 0 <= recall_room(recall_intent_of(words), budget, faults, before) <= faults
    rooms = [
        recall_room(cue, budget, faults, before)
        for cue in (RecallIntent.NONE, RecallIntent.QUESTION, RecallIntent.RECALL)
    ]
    assert rooms == sorted(rooms)


@given(st.lists(st.booleans(), min_size=RECALL_TURNS_WINDOW, max_size=RECALL_TURNS_WINDOW), st.integers(0, 10**6))
def test_turns_share_what_one_call_alone_may_bring_in(calling: list[bool], budget: int) -> None:
    """Of a conversation that calls for the past in the same turns of every `RECALL_TURNS_WINDOW`."""
    faults = 10**9
    calls = sum(calling)
    together = sum(recall_room(RecallIntent.RECALL, budget, faults, calls - 1) for call in calling if call)
    alone = recall_room(RecallIntent.RECALL, budget, faults)
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
