"""A bounded map keeps what was used last and fits."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.lru import Lru

KEYS = "abcdef"
steps = st.lists(
    st.tuples(st.sampled_from(["put", "get", "peek", "pop", "clear"]), st.sampled_from(KEYS), st.integers(0, 5)),
    max_size=60,
)


@given(steps, st.integers(1, 6), st.integers(0, 12))
def test_it_keeps_what_was_used_last_and_fits(
    steps: list[tuple[str, str, int]], count_max: int, bytes_max: int
) -> None:
    cache: Lru[str, bytes] = Lru(count_max=count_max, bytes_max=bytes_max, size_bytes=len)
    kept: dict[str, bytes] = {}
    for action, key, size in steps:
        match action:
            case "put":
                cache.put(key, bytes(size))
                kept.pop(key, None)
                kept[key] = bytes(size)
                while len(kept) > count_max or (sum(map(len, kept.values())) > bytes_max and len(kept) > 1):
                    del kept[next(iter(kept))]
            case "get":
                assert cache.get(key) == kept.get(key)
                if key in kept:
                    kept[key] = kept.pop(key)
            case "peek":
                assert cache.peek(key) == kept.get(key)
            case "pop":
                assert cache.pop(key) == kept.pop(key, None)
            case _:
                cache.clear()
                kept.clear()
        assert list(cache.items()) == list(kept.items())
        assert list(cache.values()) == list(kept.values())
        assert len(cache) == len(kept)
        assert {one for one in KEYS if one in cache} == set(kept)
