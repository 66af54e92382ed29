"""A pack is found under exactly what it was put under, and the one that is used least recently makes room."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import ContextPackCache, PackedContext

keys = st.tuples(
    st.sampled_from(["s", "s:m", ""]),
    st.sampled_from(["m", "m:1", ""]),
    st.integers(1, 3),
    st.sampled_from(["h", "g"]),
    st.sampled_from(["", "t"]),
)


@given(st.lists(keys, max_size=20), st.integers(1, 4))
def test_only_what_was_put_last_is_there(put: list[tuple[str, str, int, str, str]], entries_max: int) -> None:
    cache = ContextPackCache(max_entries=entries_max)
    for number, (session, model, budget, pages, tools) in enumerate(put):
        cache.put(session, model, budget, pages, PackedContext(content=str(number)), tools)
    last = {key: str(number) for number, key in enumerate(put)}
    kept = sorted(last, key=lambda key: int(last[key]))[-entries_max:]
    for key, content in last.items():
        packed = cache.get(*key)
        assert (None if packed is None else packed.content) == (content if key in kept else None)
    assert cache.size == len(kept)
    assert cache.hit_rate == (len(kept) / len(last) if last else 0.0)


def test_what_is_read_stays_longer() -> None:
    cache = ContextPackCache(max_entries=2)
    for model in ("a", "b"):
        cache.put("s", model, 1, "h", PackedContext(content=model))
    assert cache.get("s", "a", 1, "h") is not None
    cache.put("s", "c", 1, "h", PackedContext(content="c"))
    assert cache.get("s", "b", 1, "h") is None
    assert cache.get("s", "a", 1, "h") is not None
    assert cache.size == 2


def test_a_session_is_forgotten_alone() -> None:
    cache = ContextPackCache()
    for session in ("s", "t"):
        for model in ("a", "b"):
            cache.put(session, model, 1, "h", PackedContext(content=""))
    assert cache.invalidate_session("s") == 2
    assert cache.get("t", "a", 1, "h") is not None
    assert cache.size == 2


@given(
    st.lists(st.text(max_size=4), max_size=4, unique=True),
    st.lists(st.text(max_size=4), max_size=4, unique=True),
    st.dictionaries(st.text(max_size=2), st.integers(0, 2), max_size=3),
)
def test_working_sets_have_one_hash_each(some: list[str], others: list[str], versions: dict[str, int]) -> None:
    """In any order; ids may hold whatever separates them."""
    hashed = ContextPackCache.compute_working_set_hash
    assert (hashed(some) == hashed(others)) is (set(some) == set(others))
    assert hashed(reversed(some), versions) == hashed(some, versions)
    unchanged = all(versions.get(page_id, 0) == 0 for page_id in some)
    assert (hashed(some, versions) == hashed(some)) is unchanged
