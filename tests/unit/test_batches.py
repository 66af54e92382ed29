"""Batches are whole, in order and as large as they may be."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.runtime.batches import batches

sizes = st.lists(st.integers(0, 9), max_size=30)


@given(sizes, st.integers(1, 5), st.integers(0, 20))
def test_each_batch_is_as_large_as_it_may_be(things: list[int], count_max: int, bytes_max: int) -> None:
    made = list(batches(things, lambda size: size, count_max=count_max, bytes_max=bytes_max))
    assert [one for batch in made for one in batch] == things
    for batch in made:
        assert 0 < len(batch) <= count_max
        assert sum(batch) <= bytes_max or len(batch) == 1
    for batch, following in pairwise(made):
        assert len(batch) == count_max or sum(batch) + following[0] > bytes_max
