"""Summaries without a model: sentences as they were said, within a bound, and never nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory.summaries import SUMMARY_TOKENS_MAX, SummarizationStrategy, summarize

SAID = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(min_size=1)}), max_size=8
)


def count(text: str) -> int:
    return len(text.split()) + len(text) // 8


@given(SAID, st.sampled_from(SummarizationStrategy))
def test_a_summary_says_something_and_fits(said: list[dict[str, str]], strategy: SummarizationStrategy) -> None:
    summary = summarize(said, strategy, count)
    assert summary
    assert count(summary) <= SUMMARY_TOKENS_MAX


@pytest.mark.parametrize("strategy", SummarizationStrategy)
def test_a_summary_of_much_is_bounded_and_says_what_was_said(strategy: SummarizationStrategy) -> None:
    said = [
        {"role": role, "content": f"Service {number} of Havenbrot listens on port {8_000 + number}{end}"}
        for number in range(2_000)
        for role, end in (("user", "?"), ("assistant", ", as decided."))
    ]
    summary = summarize(said, strategy, count)
    assert SUMMARY_TOKENS_MAX / 8 < count(summary) <= SUMMARY_TOKENS_MAX
    sentences = re.findall(r"Service \d+ of Havenbrot listens on port \d+(?:\?|, as decided\.)", summary)
    assert sentences
    assert set(sentences) <= {message["content"] for message in said}


def test_one_long_word_is_cut() -> None:
    summary = summarize([{"role": "user", "content": "x" * 100_000}], SummarizationStrategy.BASIC, count)
    assert count(summary) <= SUMMARY_TOKENS_MAX
