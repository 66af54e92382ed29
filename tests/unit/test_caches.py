"""What is remembered is bounded by the memory that it takes, whatever callers choose."""

import random
import tracemalloc
from collections.abc import Callable

import pytest

from pagekeeper.core.compress import telegraph
from pagekeeper.gateway import counting
from pagekeeper.gateway.contents import CACHE_BYTES_MAX, Content, content_cache
from pagekeeper.gateway.counting import counting_for, remembering
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import page_pb2
from tests.unit.faulting import FaultingReplica, serving
from tests.unit.stack import Stores, caller, key, ready

MIB = 1 << 20


def grown_bytes(remember: Callable[[], None]) -> int:
    """Memory that is in use after it, and was not before."""
    tracemalloc.start()
    try:
        remember()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_models_of_one_encoding_share_what_is_remembered_of_texts() -> None:
    names = [f"somebody/model-{number}" for number in range(3 * counting.MODELS_REMEMBERED_MAX)]
    assert len({counting_for(name, "gpt-4o").count for name in names}) == 1


@pytest.mark.parametrize("chars", [counting.REMEMBERED_TEXT_CHARS_MAX, counting.REMEMBERED_TEXT_CHARS_MAX + 1, 5_000])
def test_a_text_is_counted_once_whatever_its_length(chars: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = remembering(EncodingName.CL100K_BASE).count
    text = "".join(random.Random(chars).choices("harbour lights ", k=chars))
    counted = count(text)
    assert counted == tokenizer(EncodingName.CL100K_BASE).count(text)
    monkeypatch.setattr("tiktoken.Encoding.encode_ordinary", None)
    assert count(text) == counted


def test_long_texts_are_not_kept_to_remember_their_counts() -> None:
    count = remembering(EncodingName.O200K_BASE).count

    def remember() -> None:
        for number in range(400):
            count(f"{number} \N{SNOWMAN}" + "many words of somebody " * 200)

    assert grown_bytes(remember) < MIB


def test_pages_without_text_do_not_fill_the_memory_with_their_addresses() -> None:
    entries = CACHE_BYTES_MAX // Content(b"", "").size_bytes

    def remember() -> None:
        cache = content_cache()
        for number in range(2_000):
            cache.put(("acme", "s" * 64, f"{number:064}", 1, 0), Content(b"", f"{number}"))
        kept.append(cache)

    kept: list[object] = []
    assert grown_bytes(remember) / 2_000 * entries < CACHE_BYTES_MAX


def test_a_line_counts_with_the_memory_that_its_characters_take() -> None:
    assert Content(b"", "\U0001f600" * 1_000).size_bytes > Content(b"", "x" * 4_000).size_bytes


def test_a_run_without_white_space_is_not_kept_as_a_word() -> None:
    chunk = "Ab" * telegraph.WORD_CHARS_CACHED_MAX
    assert telegraph.core_of(chunk) == chunk.lower()
    assert telegraph.core_of(chunk) is not telegraph.core_of(chunk)
    assert telegraph.core_of("Harbour,") == "harbour"
    assert telegraph.core_of("Harbour,") is telegraph.core_of("Harbour,")


async def test_an_entry_with_long_descriptions_is_asked_for_each_time() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        scenes = page_pb2.MediaDescription(scenes=["a long scene " * 300])
        await replica.append(
            page_pb2.PageInput(page_id="film", modality=page_pb2.MODALITY_VIDEO, media=scenes),
            page_pb2.PageInput(page_id="words", text="a harbour"),
        )
        for page_id, kept in (("film", False), ("words", True)):
            found = [await replica.entries.find(caller(), key("s1"), page_id, 0) for _ in range(3)]
            assert (found[1] is found[2]) == kept
