"""Reading conversations with questions, judging what a prompt carries, and what the baselines may take."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.quality.baselines import Baselines
from bench.quality.carried import carries
from bench.quality.conversations import BEAM, LOCOMO, Conversation, Question, Turn, UnknownShape, read, shipped
from pagekeeper.core.packing import prefix_of, render_line
from pagekeeper.core.pages import MessageRole, Modality, PageType
from pagekeeper.runtime.tokens import EncodingName, tokenizer

COUNT = tokenizer(EncodingName.O200K_BASE).count
SAMPLES = [
    {
        "sample_id": "s",
        "conversation": {
            "speaker_a": "Ada",
            "session_2": [{"speaker": "Ben", "dia_id": "b1", "text": "The kestrel is back."}],
            "session_10": [{"speaker": "Ada", "dia_id": "j1", "text": "So is the heron."}],
            "session_2_date_time": "9:05 am on 3 March, 2024",
        },
        "qa": [
            {"question": "What is back?", "answer": "a heron and a kestrel", "evidence": ["b1; j1"], "category": 1},
            {"question": "Who left?", "evidence": ["b1"], "category": 5},
            {"question": "Who knows?", "answer": 3, "evidence": ["x9"], "category": 2},
        ],
    }
]
CHAT = {
    "id": "c",
    "chat": [
        {
            "batch_number": 1,
            "turns": [
                [{"role": "user", "id": 0, "content": "Use tabs."}, {"role": "assistant", "id": 1, "content": "Yes."}]
            ],
        }
    ],
    "questions": {
        "update": [{"question": "Tabs?", "answer": "Tabs", "source_chat_ids": {"first": [0], "then": [[1]]}}],
        "abstention": [{"question": "Why?", "ideal_response": "Not said."}],
    },
}


def written(folder: Path, content: object) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def test_locomo_samples_are_read_in_the_order_of_their_sessions(tmp_path: Path) -> None:
    (conversation,) = read(written(tmp_path, SAMPLES))
    assert conversation.dataset == LOCOMO
    assert [turn.text for turn in conversation.turns] == [
        "Ben, 3 March 2024: The kestrel is back.",
        "Ada: So is the heron.",
    ]
    assert conversation.questions == (Question("What is back?", "a heron and a kestrel", (0, 1), "category 1"),)


def test_a_beam_chat_is_read_with_the_questions_that_have_evidence(tmp_path: Path) -> None:
    (conversation,) = read(written(tmp_path, CHAT))
    assert conversation.dataset == BEAM
    assert conversation.turns == (Turn("Use tabs.", MessageRole.USER), Turn("Yes.", MessageRole.ASSISTANT))
    assert conversation.questions == (Question("Tabs?", "Tabs", (0, 1), "update"),)


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownShape):
        read(written(tmp_path, {"turns": []}))


def test_the_conversation_that_ships_has_questions() -> None:
    (conversation,) = shipped()
    assert conversation.questions
    for question in conversation.questions:
        assert all(0 <= number < len(conversation.turns) for number in question.evidence)


@pytest.mark.parametrize(
    ("text", "gold", "carried"),
    [
        ("Ada met Ben 3 May harbour", "on 3 May", True),
        ("Ada met Ben harbour", "on 3 May", False),
        ("Ada, Ben, harbour", "no", False),
        ("Oh, Ada met Ben on 3 May at the harbour.", "no", True),
        ("Ada met Ben 3 May harbour", "no", True),
    ],
)
def test_a_reduced_turn_is_carried_when_it_keeps_what_the_answer_needs(text: str, gold: str, *, carried: bool) -> None:
    assert carries(text, "Oh, Ada met Ben on 3 May at the harbour.", gold) is carried


@settings(max_examples=30)
@given(st.integers(0, 400), st.sampled_from(("kestrel", "What of the heron?", "")))
def test_a_baseline_shows_turns_within_its_budget(budget_tokens: int, question: str) -> None:
    texts = [f"Turn {number}: the {bird} is back." for number, bird in enumerate(["kestrel", "heron", "wren"] * 8)]
    conversation = Conversation(LOCOMO, "s", tuple(Turn(text, MessageRole.USER) for text in texts), ())
    baselines = Baselines(conversation, COUNT)
    prefix = prefix_of(Modality.TEXT, PageType.TRANSCRIPT, MessageRole.USER)
    for ask in (baselines.tail, baselines.bm25, baselines.bm25_and_neighbours, baselines.window_and_summary):
        shown = ask(question, budget_tokens)
        lines = "".join(render_line(prefix, str(number), 0, texts[number]) for number in sorted(shown.turns))
        assert COUNT(lines) <= shown.tokens
        assert shown.tokens <= budget_tokens or not shown.turns
