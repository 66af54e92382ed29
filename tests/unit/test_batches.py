"""Batches are whole, in order and as large as they may be; a cache of bytes keeps what was asked for last."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.byte_cache import ByteCache

sizes = st.lists(st.integers(0, 9), max_size=30)
KEYS = "abcdef"


@given(sizes, st.integers(1, 5), st.integers(0, 20))
def test_each_batch_is_as_large_as_it_may_be(things: list[int], count_max: int, bytes_max: int) -> None:
    made = list(batches(things, lambda size: size, count_max=count_max, bytes_max=bytes_max))
    assert [one for batch in made for one in batch] == things
    for batch in made:
        assert 0 < len(batch) <= count_max
        assert sum(batch) <= bytes_max or len(batch) == 1
    for batch, following in pairwise(made):
        assert len(batch) == count_max or sum(batch) + following[0] > bytes_max


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(KEYS)), max_size=60), st.integers(0, 12))
def test_the_cache_keeps_what_was_asked_for_last_and_fits(steps: list[tuple[bool, str]], bytes_max: int) -> None:
    value_of = {key: bytes(number) for number, key in enumerate(KEYS)}
    cache: ByteCache[str, bytes] = ByteCache(len, bytes_max)
    kept: list[str] = []
    for put, key in steps:
        if put and key not in kept:
            kept.append(key)
            while sum(len(value_of[one]) for one in kept) > bytes_max:
                kept.pop(0)
        elif not put and key in kept:
            kept.append(kept.pop(kept.index(key)))
        if put:
            cache.put(key, value_of[key])
        else:
            assert cache.get(key) == (value_of[key] if key in kept else None)
        assert [one for one in KEYS if one in cache] == [one for one in KEYS if one in kept]
