"""Sentences are slices of their text, and facts are counted where they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.sentences import (
    FULL_WEIGHT,
    JUDGED_CHARS,
    SENTENCE_CHARS_MAX,
    facts_of,
    is_filler,
    names_in,
    split_sentences,
    telling_percent_of,
)
from tests.unit.hostile_text import hostile_texts

documents = hostile_texts | st.lists(hostile_texts, max_size=12).map("\n".join)


@given(documents)
def test_sentences_are_slices_and_white_space_is_all_between_them(text: str) -> None:
    end = 0
    for sentence in split_sentences(text):
        assert text[sentence.start : sentence.start + len(sentence.text)] == sentence.text
        assert sentence.text == sentence.text.strip()
        assert not text[end : sentence.start].strip()
        assert sentence.code or len(sentence.text) <= SENTENCE_CHARS_MAX
        end = sentence.start + len(sentence.text)
    assert not text[end:].strip()


@given(documents)
def test_every_sentence_can_be_judged(text: str) -> None:
    for sentence in split_sentences(text):
        assert facts_of(sentence.text).weight >= 0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("Hi Mel! How are you? Fine.", ["Hi Mel!", "How are you?", "Fine."]),
        ("Dr. Smith met J. Doe at 10.30 a.m. in St. Ives. Then they left.",
         ["Dr. Smith met J. Doe at 10.30 a.m. in St. Ives.", "Then they left."]),
        ("Use e.g. v2.15.1 of it. Done...  Really?", ["Use e.g. v2.15.1 of it.", "Done...", "Really?"]),
        ("- one thing\n- another. And more\n3. third", ["- one thing", "- another.", "And more", "3. third"]),
        ("wrapped here and\nit goes on. New\nLine", ["wrapped here and\nit goes on.", "New", "Line"]),
        ("Look:\n```py\nx = 1. + 2\n\ny = 3\n```\nDone.", ["Look:", "```py\nx = 1. + 2\n\ny = 3\n```", "Done."]),
        ("```\nnever closed. It is", ["```\nnever closed. It is"]),
        ("今日は晴れです。明日は雨。", ["今日は晴れです。", "明日は雨。"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("x" * 2_500, ["x" * 1_000, "x" * 1_000, "x" * 500]),
    ],
)  # fmt: skip
def test_splitting(text: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(text)] == sentences


def test_facts() -> None:
    decided = facts_of("On 7 May 2023 we decided to pay Caroline $1,200 for `parse_page`.")
    assert (decided.numbers, decided.decisions, decided.names, decided.identifiers) == (3, 1, 2, 1)
    assert not decided.filler
    assert facts_of("That sounds great, Mel!").filler
    assert facts_of("Did you see it?").question
    assert decided.weight > 4 * facts_of("We then went to see how it would look in the evening.").weight


@pytest.mark.parametrize(
    ("text", "filler"),
    [
        ("Hey there!", True),
        ("Thanks so much, that's really kind of you.", True),
        ("I hope this helps!", True),
        ("Yes, the invoice from Berlin was paid by transfer on Monday morning.", False),
        ("The server runs NATS.", False),
    ],
)
def test_filler(text: str, filler: bool) -> None:  # noqa: FBT001 - a table of cases
    assert is_filler(text) == filler


def test_names_are_capitals_that_no_sentence_began() -> None:
    assert names_in("Yesterday Caroline met Élodie. Then NASA called. Nothing else.") == ["Caroline", "Élodie", "NASA"]
    assert names_in("on iPhones, _Harbour and eLyon") == []


@given(text=hostile_texts, rest=hostile_texts)
def test_telling_is_a_share_and_of_the_beginning(text: str, rest: str) -> None:
    assert 0 <= telling_percent_of(text) <= 100
    assert telling_percent_of(text.ljust(JUDGED_CHARS) + rest) == telling_percent_of(text.ljust(JUDGED_CHARS))


LETTERS = str.maketrans("01", "xy")
messages = st.lists(
    st.sampled_from(
        ["Great", "thanks", "So", "glad", "to", "hear", "Oh", "parcel", "depot", "Lyon", "12:30", "took_ms", "agreed"]
    )
    | hostile_texts
)


@given(
    opening=st.sampled_from(["", "Great, thanks! ", "Hi there! How are you? "]),
    text=st.just("") | messages.map(" ".join),
    words=st.integers(0, 30) | st.integers(35, 41),
    ends=st.sampled_from([".", "?", ", Mel!"]),
)
def test_telling_goes_by_all_facts_however_soon_it_is_known(opening: str, text: str, words: int, ends: str) -> None:
    message = f"{opening}{text} {' '.join(f'{one:b}'.translate(LETTERS) for one in range(words))}{ends}"
    full = min(1.0, facts_of(message[:JUDGED_CHARS]).weight / FULL_WEIGHT)
    assert telling_percent_of(message) == round(100 * full * full)


def test_what_tells_more_is_more_telling() -> None:
    asked = "When is the launch of Harbour, and does Anna Lind of the audit team know?"
    told = "Anna Lind moved the launch of Harbour from 4 May to 12 June, because the audit found 37 open ports."
    assert telling_percent_of("Thanks, that helps!") < telling_percent_of(asked) < telling_percent_of(told)
