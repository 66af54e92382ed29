"""What a prompt cache serves is a prefix: never more than there is, all of it when nothing changed."""

from hypothesis import given
from hypothesis import strategies as st

from bench.quality.cache import READ, WRITE, PromptCache, Served, count_tokens
from bench.quality.plot import smoothed

lines = st.lists(st.sampled_from(["a line of words\n", "another one\n", '{"json": 1}\n', "日本語\n"]), max_size=8)
prompts = lines.map("".join)


@given(before=prompts, after=prompts)
def test_no_more_is_served_than_both_prompts_have(before: str, after: str) -> None:
    cache = PromptCache()
    assert cache.serve(before).from_cache == 0
    served = cache.serve(after)
    assert served.tokens == count_tokens(after)
    assert 0 <= served.from_cache <= min(count_tokens(before), served.tokens)


@given(before=prompts, more=prompts)
def test_what_only_grows_is_served_whole(before: str, more: str) -> None:
    cache = PromptCache()
    cache.serve(before)
    assert cache.serve(before + more).from_cache == count_tokens(before)


@given(start=prompts, one=prompts, other=prompts)
def test_what_changes_at_its_head_is_not_served(start: str, one: str, other: str) -> None:
    cache = PromptCache()
    cache.serve(f"7 memories\n{start}{one}")
    assert cache.serve(f"8 memories\n{start}{other}").from_cache == 0


def test_a_line_that_changes_within_is_served_up_to_there() -> None:
    cache = PromptCache()
    cache.serve("The deadline is on Friday.\n")
    assert cache.serve("The deadline is on Monday.\n").from_cache == count_tokens("The deadline is on ")


def test_what_the_cache_serves_is_cheap_and_what_it_keeps_is_dear() -> None:
    assert Served(1_000, 0).cost == 1_000 * WRITE
    assert Served(1_000, 1_000).cost == 1_000 * READ


def test_a_mean_of_the_last_values() -> None:
    assert smoothed([1.0, 0.0, 1.0, 1.0], 2) == [1.0, 0.5, 0.5, 1.0]
