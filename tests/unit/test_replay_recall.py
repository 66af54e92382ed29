"""What counts as an answer, and which questions are asked."""

import pytest

from demo.corpus.types import Conversation, Message, Recall, Role, Turn
from demo.replay.recall import cited_pages, is_correct, with_questions_at_most

DECISION = Recall("price", ("€49", "15-minute"), ("m7",))
EVIDENCE = Recall("events", (), ("m1", "m2"))


def test_citations_are_read_once_each_in_their_order() -> None:
    assert cited_pages("Yes [ref: m2], [ref: m1, m3] and [ref:m2]; not [m4] or (ref: m5).") == ("m2", "m1", "m3")
    assert cited_pages("See [ref: m2.] and [ref: C01/1699.12:1]: both.") == ("m2", "C01/1699.12:1")
    assert cited_pages("Nothing.") == ()


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        ("€49 and 15-minute tokens [ref: m7]", True),
        ("**€ 49**, tokens live 15 Minutes [ref: m7]", True),
        ("€49 and 15\u202fminutes [ref: m1][ref: m7]", True),
        ("€49 and 15 minutes", False),
        ("€49 and 15 minutes [ref: m8]", False),
        ("€49 [ref: m7]", False),
        ("€59 and 15 minutes [ref: m7]", False),
    ],
)
def test_a_decision_needs_every_string_and_the_right_citation(reply: str, correct: bool) -> None:  # noqa: FBT001
    assert is_correct(DECISION, reply, frozenset({"m7"})) is correct


def test_evidence_counts_when_it_was_shown_or_is_cited() -> None:
    assert is_correct(EVIDENCE, "whatever [ref: m2]", frozenset({"m1"}))
    assert is_correct(EVIDENCE, "", frozenset({"m1", "m2"}))
    assert not is_correct(EVIDENCE, "[ref: m2]", frozenset({"m3"}))


def test_questions_are_thinned_out_evenly_and_nothing_else_is() -> None:
    turns = [Turn((Message(f"m{n}", Role.USER, "x"),), ()) for n in range(5)]
    turns += [Turn((Message(f"q{n}", Role.USER, "?"),), (), EVIDENCE) for n in range(10)]
    whole = Conversation("c", (), tuple(turns))
    kept = with_questions_at_most(whole, 4)
    assert [turn.question[0].page_id for turn in kept.turns] == ["m0", "m1", "m2", "m3", "m4", "q0", "q2", "q5", "q7"]
    assert with_questions_at_most(whole, 10) is whole
