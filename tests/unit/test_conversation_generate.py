"""The generated conversation: the committed file is what the generator makes, and it asks what it is meant to ask."""

import json
from collections import Counter
from typing import Any

import pytest

from demo.corpus.generate import DEFAULT_FILE, SEED, generate
from demo.corpus.load import load_conversations
from demo.corpus.types import Role
from pagekeeper.runtime.tokens import EncodingName, tokenizer

SEEDS = (SEED, 1, 2, 3, 77)


def records(seed: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in generate(seed).splitlines()]


def content(record: dict[str, Any]) -> str:
    return str(record["content"] or record["tool_calls"][0]["function"]["arguments"])


def test_the_committed_file_is_what_the_generator_makes() -> None:
    assert DEFAULT_FILE.read_bytes() == generate(SEED).encode()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others() -> None:
    assert generate(5) == generate(5)
    assert generate(5) != generate(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_long_and_tool_results_are(seed: int) -> None:
    count = tokenizer(EncodingName.O200K_BASE).count
    made = records(seed)
    sizes = [count(content(record)) for record in made]
    tool_sizes = [size for size, record in zip(sizes, made, strict=True) if record["role"] == "tool"]
    assert sum(record["role"] == "user" for record in made) >= 300
    assert sum(sizes) >= 150_000
    assert sum(1_000 <= size <= 3_000 for size in tool_sizes) >= 60
    assert max(sizes) <= 3_500


@pytest.mark.parametrize("seed", SEEDS)
def test_five_topics_are_decided_in_the_first_half_and_asked_for_twice_in_the_last_third(seed: int) -> None:
    made = records(seed)
    place = {record["id"]: number / len(made) for number, record in enumerate(made)}
    asked = [record for record in made if "recall" in record]
    assert Counter(record["recall"]["topic"] for record in asked) == dict.fromkeys(
        ("database", "authentication", "region", "queue", "pricing"), 2
    )
    for record in asked:
        assert place[record["recall"]["decision_message"]] < 0.55
        assert place[record["id"]] > 0.63


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_decision_holds_the_answer(seed: int) -> None:
    made = records(seed)
    said = {record["id"]: content(record) for record in made}
    first_questions = [record["recall"] for record in made if len(record.get("recall", {}).get("answer", ())) > 1]
    assert len(first_questions) >= 5
    for recall in first_questions:
        holders = [page_id for page_id, text in said.items() if all(part in text for part in recall["answer"])]
        assert holders == [recall["decision_message"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_decision_nobody_names_the_winner_in_talk_about_the_topic(seed: int) -> None:
    """Otherwise a question could be answered from a page that decides nothing."""
    made = records(seed)
    ids = [record["id"] for record in made]
    asked: dict[str, dict[str, Any]] = {}
    for record in made:
        if "recall" in record:
            asked.setdefault(record["recall"]["topic"], record["recall"])
    for topic in ("database", "region", "queue"):
        later = made[ids.index(asked[topic]["decision_message"]) + 1 :]
        assert [record["id"] for record in later if asked[topic]["answer"][0] in content(record)] == []


def test_it_speaks_many_languages_and_shows_code_and_json() -> None:
    text = DEFAULT_FILE.read_text(encoding="utf-8")
    assert [words for words in ("おり", "客户", "رسالة", "після", "संदेश", "🎉") if words not in text] == []
    for words in ("Was antworten wir?", "Qu'est-ce qu'on répond", "¿Es un error nuestro?"):
        assert words in text
    fences = Counter(part.split("\\n")[0] for part in text.split("```")[1::2])
    assert len(fences) >= 12
    assert {"python", "go", "rust", "sql", "json", "typescript"} <= set(fences)


def test_every_tool_result_answers_the_call_before_it() -> None:
    previous: dict[str, Any] = {}
    for record in records(SEED):
        if record["role"] == "tool":
            assert previous["tool_calls"][0]["id"] == record["tool_call_id"]
        previous = record


def test_it_loads_as_turns_whose_recall_stays_apart_from_what_is_said() -> None:
    (conversation,) = load_conversations(DEFAULT_FILE)
    asked = [turn for turn in conversation.turns if turn.recall is not None]
    assert len(conversation.turns) >= 300
    assert len(asked) == 10
    assert all(turn.reply == () for turn in asked)
    assert [message.role for message in conversation.system] == [Role.SYSTEM]
    assert not any(mark in message.text for message in conversation.messages() for mark in ("@TODAY@", "@number@"))
