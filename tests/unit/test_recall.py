"""What a message calls for: the pages that say it, their neighbours, and more for short pages than for long ones."""

from collections.abc import Sequence
from dataclasses import asdict
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.embedding import Floats, Vectors
from pagekeeper.core.pages import MessageRole
from pagekeeper.core.recall import WEIGHTS, RecallWeights, recall
from pagekeeper.core.recall_intent import subject_of
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.sentences import speaker_of

WORDS = ("harbour", "invoice", "kestrel", "lantern", "marble", "nettle")
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


class LettersEmbedder:
    """Texts are alike that have the same letters."""

    dimensions = 26

    def embed(self, texts: Sequence[str]) -> Floats:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for letter in text.lower():
                if "a" <= letter <= "z":
                    vectors[row, ord(letter) - ord("a")] += 1
            vectors[row] /= max(float(np.linalg.norm(vectors[row])), 1.0)
        return vectors


def index_of(pages: Sequence[str]) -> SessionIndex:
    index = SessionIndex(LettersEmbedder())
    for number, text in enumerate(pages):
        index.add(f"p{number}", text)
    return index


def recalled(index: SessionIndex, query: str) -> list[str]:
    return [page.page_id for page in recall(index, query, limit=100)]


@given(st.lists(texts, max_size=12), texts, st.integers(1, 5))
def test_utility_is_ordered_bounded_and_the_same_again(pages: list[str], query: str, limit: int) -> None:
    index = index_of(pages)
    found = recall(index, query, limit=limit)
    assert found == recall(index, query, limit=limit) == recall(index, query, limit=100)[:limit]
    assert found == sorted(found, key=lambda page: -page.utility)
    assert all(0 < page.utility <= 1 for page in found)
    assert len({page.page_id for page in found}) == len(found)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), texts | st.none()), max_size=20), texts)
def test_a_long_history_leaves_no_trace(history: list[tuple[str, str | None]], query: str) -> None:
    """An index that lived recalls as one that was only given what is left, in the order it came."""
    lived, left = SessionIndex(LettersEmbedder()), dict[str, str]()
    for page_id, text in history:
        if text is not None:
            lived.replace(page_id, text)
            left[page_id] = text
        elif page_id in left:
            lived.remove(page_id)
            del left[page_id]
    fresh = SessionIndex(LettersEmbedder())
    for page_id, text in left.items():
        fresh.add(page_id, text)
    assert recall(lived, query, limit=100) == recall(fresh, query, limit=100)


@given(st.lists(texts, max_size=8), texts, st.lists(st.integers(0, 8), max_size=3))
def test_others_are_measured_without_pages_that_say_just_the_message(
    pages: list[str], query: str, places: list[int]
) -> None:
    """As the page that the message has become."""
    said = list(pages)
    for place in places:
        said.insert(place, query)
    found = recall(index_of(said), query, limit=100)
    assert all(said[int(page.page_id[1:])] != query for page in found)
    assert not found or found[0].utility == 1.0


def test_what_stands_around_the_message_is_not_called_for_by_it() -> None:
    index = SessionIndex()
    for number in range(9):
        index.add(f"p{number}", "nettle")
    index.replace("p4", "harbour lantern")
    assert recalled(index, "harbour lantern") == []
    index.replace("p8", "a lantern by the harbour")
    index.replace("p4", "a harbour")
    assert recalled(index, "harbour lantern")[0] == "p8"
    index.replace("p4", "harbour lantern")
    assert recalled(index, "harbour lantern")[:2] == ["p8", "p7"]


def test_the_answer_in_the_next_turn_comes_with_the_question() -> None:
    index = index_of(["nettle"] * 20)
    index.replace("p7", "Whom do we meet in the harbour?")
    index.replace("p8", "By the old lighthouse.")
    assert recalled(index, "harbour")[:2] == ["p7", "p8"]


def test_of_two_that_say_it_the_shorter_comes_first() -> None:
    index = SessionIndex()
    index.add("long", "harbour " + "and so on " * 1000)
    index.add("short", "harbour " + "and so on " * 10)
    assert recalled(index, "harbour") == ["short", "long"]


def test_what_a_person_said_comes_before_what_a_model_said_of_it() -> None:
    index = SessionIndex()
    index.add("model", "The harbour is deep.", role=MessageRole.ASSISTANT)
    index.add("person", "The harbour is deep.", role=MessageRole.USER)
    assert recalled(index, "harbour") == ["person", "model"]


def test_nothing_in_common_calls_for_nothing() -> None:
    index = SessionIndex()
    index.add("p", "harbour")
    assert recalled(index, "") == recalled(index, "lantern") == recalled(SessionIndex(), "harbour") == []


def test_similarity_finds_what_words_do_not() -> None:
    index = index_of(["lantern", "quiz", "kestrel"])
    assert recalled(index, "quizzes")[0] == "p1"


@given(st.lists(st.integers(0, 9), unique=True, min_size=1), st.randoms(use_true_random=False))
def test_vectors_depend_on_what_is_set_alone(rows: list[int], random: Random) -> None:
    alphabet = LettersEmbedder().embed([WORDS[row % len(WORDS)] * (row + 1) for row in range(10)])
    lived, fresh = Vectors(26), Vectors(26)
    for row in range(10):
        lived.set(row, alphabet[row])
    for row in random.sample(range(10), 10):
        if row not in rows:
            lived.clear(row)
    for row in rows:
        fresh.set(row, alphabet[row])
    probe = LettersEmbedder().embed(["harbour"])[0]
    assert np.array_equal(lived.similarity(lived.direction(probe), 10), fresh.similarity(fresh.direction(probe), 10))


def test_rows_are_set_once_and_cleared_once() -> None:
    vectors = Vectors(2)
    vectors.set(3, np.array([1.0, 0.0], np.float32))
    with pytest.raises(KeyError):
        vectors.set(3, np.array([1.0, 0.0], np.float32))
    vectors.clear(3)
    for row in (3, 1_000):
        with pytest.raises(KeyError):
            vectors.clear(row)


def test_what_was_said_comes_before_what_was_asked() -> None:
    index = SessionIndex()
    index.add("asked", "The harbour is deep?")
    index.add("said", "The harbour is deep.")
    assert recalled(index, "harbour") == ["said", "asked"]


def test_what_the_best_pages_mean_is_looked_for_too() -> None:
    """The last page shares no word and no letter with the query, but many with the page that has it."""
    index = index_of(["qqqq"] * 30)
    index.replace("p2", "zinc jukebox vow")
    index.replace("p25", "jukebox vow jukebox vow")
    with_feedback, without = (
        {page.page_id: page.utility for page in recall(index, "zinc", limit=100, weights=weights)}
        for weights in (WEIGHTS, RecallWeights(feedback_weight=0.0))
    )
    assert max(with_feedback, key=with_feedback.__getitem__) == "p2"
    assert with_feedback["p25"] > 1.5 * without["p25"]


NEUTRAL = {
    "semantic_weight": 0.0,
    "feedback_weight": 0.0,
    "feedback_pages": 1,
    "sharpness": 1.0,
    "neighbour_weight": 0.0,
    "neighbour_decay": 0.0,
    "neighbour_reach": 1,
    "fixed_cost_tokens": 0.0,
    "cost_exponent": 0.0,
    "generated_factor": 1.0,
    "question_factor": 1.0,
    "wish_factor": 1.0,
    "asked_of_model_factor": 1.0,
    "named_speaker_factor": 1.0,
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_every_weight_counts(name: str) -> None:
    """Each changes the utility of some page of a conversation that has all kinds of pages."""
    index = SessionIndex(LettersEmbedder())
    pages = (
        ("Ada: The harbour is deep.", MessageRole.USER),
        ("How deep is the harbour?", MessageRole.USER),
        ("The harbour is forty metres deep, as the chart of the lantern says. " * 9, MessageRole.ASSISTANT),
        ("Always answer in fathoms of the harbour.", MessageRole.USER),
        ("kestrel", MessageRole.USER),
        ("invoice marble", MessageRole.TOOL),
        ("harbour lantern nettle", MessageRole.TOOL),
    )
    for number, (text, role) in enumerate(pages):
        index.add(f"p{number}", text, role=role)
    query = "What did you say of Ada's harbour?"
    without = RecallWeights(**(asdict(WEIGHTS) | {name: NEUTRAL[name]}))
    assert recall(index, query, limit=9, weights=without) != recall(index, query, limit=9)


def test_how_things_are_to_be_done_comes_before_what_was_done() -> None:
    index = SessionIndex()
    index.add("done", "We wrote the harbour log in French.")
    index.add("wish", "Always write the harbour log in French.")
    assert recalled(index, "harbour log") == ["wish", "done"]


def test_a_question_after_the_model_s_own_words_finds_them_sooner() -> None:
    index = SessionIndex()
    index.add("user", "The harbour is deep.")
    index.add("model", "The harbour is deep.", role=MessageRole.ASSISTANT)
    plain, asked = (
        {page.page_id: page.utility for page in recall(index, query, limit=2)}["model"]
        for query in ("What of the harbour?", "What did you say of the harbour?")
    )
    assert asked > plain


def test_who_is_named_said_it_sooner() -> None:
    index = SessionIndex()
    index.add("ben", "Ben, 3 May 2024: Ada knows that the harbour is deep.")
    index.add("ada", "Ada, 3 May 2024: Ben knows that the harbour is deep.")
    assert recalled(index, "What did Ada's letter say of the harbour?") == ["ada", "ben"]
    assert recalled(index, "What did ben say of the harbour?") == ["ben", "ada"]


def test_a_speaker_whose_pages_are_gone_changes_nothing() -> None:
    lived, fresh = SessionIndex(), SessionIndex()
    lived.add("gone", "Ada: The harbour is deep.")
    lived.remove("gone")
    for index in (lived, fresh):
        index.add("p0", "Ben: The harbour is deep.")
        index.add("p1", "Ada Lee: The harbour is deep.")
    assert recall(lived, "Ada Lee, harbour", limit=9) == recall(fresh, "Ada Lee, harbour", limit=9)
    assert recalled(lived, "Ada Lee, harbour") == ["p1", "p0"]


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("Ada: yes", "ada"),
        ("Ada, 8 May 2023: yes", "ada"),
        ("Ada Lee King: yes", "ada lee king"),
        ("Well, I said: yes", "well"),
        ("https://harbour.test: down", ""),
        ("9:05 is early", ""),
        ("What you all said was this: yes", ""),
        ("Ada said\nthis: yes", ""),
    ],
)
def test_who_speaks_is_read_at_the_beginning(text: str, speaker: str) -> None:
    assert speaker_of(text) == speaker


def test_words_of_conversing_do_not_lead_away_from_the_subject() -> None:
    """The letters of the last page are those of the query's frame, those of the first one of what it is about."""
    index = index_of(["kilnmilkkink", "throughoutconversationsorder"])
    asked = "Order of kiln, milk, kink discussed throughout conversations, in order?"
    assert recalled(index, asked)[0] == "p0"


def test_a_message_of_nothing_but_conversing_is_its_own_subject() -> None:
    assert subject_of("Can you give a summary?") == "Can you give a summary?"
    assert subject_of("Summary of the harbour works?").split() == ["of", "the", "harbour", "works?"]
