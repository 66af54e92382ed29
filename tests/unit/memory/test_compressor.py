"""Whatever is made of a page, the page is as it was and its full content is at hand."""

import asyncio
import json
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import LOWER_LEVELS
from pagekeeper.core.compress.registry import CompressorRegistry as CoreRegistry
from pagekeeper.memory import (
    CompressionLevel,
    CompressionResult,
    Compressor,
    CompressorRegistry,
    ImageCompressor,
    MemoryPage,
    Modality,
    PassthroughCompressor,
    TextCompressor,
    TextCompressorConfig,
    make_thumbnail,
)
from pagekeeper.memory.tokens import estimated_tokens
from tests.unit.memory.pages import lower_levels, pages, text_page

PROSE = (
    "The deployment of the billing service failed on Tuesday because the database migration held a lock for nine "
    "minutes. Mira rolled it back at 14:20 and nobody lost data. Afterwards everyone had lunch, which was fine. The "
    "weather was rather pleasant as well. We decided to run migrations in a job of their own, with a timeout of thirty "
    "seconds. Tomas will write that job until Friday. There was some talk about colours of the dashboard. In the end "
    "the next release stays planned for 3 March. It was a long meeting and people were tired."
)
REGISTRY = CompressorRegistry.default()


@settings(max_examples=60)
@given(pages, st.lists(lower_levels, min_size=1, max_size=3))
def test_the_original_is_never_lost(page: MemoryPage, levels: list[CompressionLevel]) -> None:
    """Compressing before an eviction must not overwrite the only full copy, however often it is done."""

    async def lower() -> None:
        as_it_was = page.model_copy(deep=True)
        shown, level = page, CompressionLevel.FULL
        for target in levels:
            before = shown.model_copy(deep=True)
            result = await REGISTRY.compress(shown, target)
            assert shown == before
            shown, level = result.page, max(level, target)
            assert result.level_after == shown.compression_level == level
            assert result.compressed_tokens == shown.estimate_tokens()
            assert result.tokens_saved == before.estimate_tokens() - shown.estimate_tokens()
            assert shown.full == as_it_was
            assert MemoryPage.model_validate_json(shown.model_dump_json()).full == as_it_was

    asyncio.run(lower())


async def test_a_level_does_not_depend_on_the_levels_before_it() -> None:
    page = text_page(content=PROSE * 3)
    reduced = (await REGISTRY.compress(page, CompressionLevel.REDUCED)).page
    at_once = (await REGISTRY.compress(page, CompressionLevel.ABSTRACT)).page
    by_steps = (await REGISTRY.compress(reduced, CompressionLevel.ABSTRACT)).page
    assert at_once.content == by_steps.content


async def test_a_level_that_is_reached_already_is_left_alone() -> None:
    page = text_page(content=PROSE)
    abstract = (await REGISTRY.compress(page, CompressionLevel.ABSTRACT)).page
    for target in (CompressionLevel.FULL, CompressionLevel.REDUCED, CompressionLevel.ABSTRACT):
        result = await REGISTRY.compress(abstract, target)
        assert result.page is abstract
        assert result.tokens_saved == 0


async def test_prose_gets_shorter_at_every_level_and_keeps_what_was_decided() -> None:
    page = text_page(content=PROSE)
    tokens = [page.estimate_tokens()]
    for level in (CompressionLevel.REDUCED, CompressionLevel.ABSTRACT, CompressionLevel.REFERENCE):
        result = await REGISTRY.compress(page, level)
        tokens.append(result.compressed_tokens)
        if level is CompressionLevel.REDUCED:
            assert "14:20" in result.page.content
    assert tokens == sorted(set(tokens), reverse=True)


async def test_text_without_sentences_gets_shorter_too() -> None:
    result = await REGISTRY.compress(text_page(content="hello world " * 100), CompressionLevel.REDUCED)
    assert result.tokens_saved > 0


async def test_a_short_text_stays_whole() -> None:
    result = await REGISTRY.compress(text_page(content="Meet me at nine."), CompressionLevel.REDUCED)
    assert result.page.content == "Meet me at nine."


@pytest.mark.parametrize("level", LOWER_LEVELS)
async def test_text_and_data_at_a_level_are_the_cores(level: CompressionLevel) -> None:
    core = CoreRegistry.default()
    text = await REGISTRY.compress(text_page(content=PROSE), level)
    made = core.compress(Source("p1", Modality.TEXT, PROSE), level, estimated_tokens)
    assert made is not None
    assert (text.page.content, text.compressed_tokens) == (made.text, made.tokens)
    rows = {"rows": [{"id": number, "text": "some words " * 10} for number in range(50)]}
    data = await REGISTRY.compress(MemoryPage(page_id="d1", modality=Modality.STRUCTURED, content=rows), level)
    shape = core.compress(Source("d1", Modality.STRUCTURED, json.dumps(rows)), level, estimated_tokens)
    assert shape is not None
    assert data.page.content == (shape.text if level is CompressionLevel.REFERENCE else json.loads(shape.text))


async def test_a_summariser_is_asked_with_what_is_left_to_say() -> None:
    asked: list[tuple[str, int]] = []

    async def summarize(text: str, tokens_max: int) -> str:
        asked.append((text, tokens_max))
        return "In short."

    compressor = TextCompressor(TextCompressorConfig(reduced_ratio=0.25), summarize)
    page = text_page(content=PROSE)
    for level in (CompressionLevel.REDUCED, CompressionLevel.ABSTRACT):
        result = await compressor.compress(page, level)
        assert result.page.content == "In short."
        assert result.page.full is page
    assert asked == [(PROSE, page.estimate_tokens() // 4), (PROSE, 200)]


async def test_a_summary_that_is_longer_is_not_used() -> None:
    async def expand(text: str, _: int) -> str:
        return text * 2

    result = await TextCompressor(summarize_fn=expand).compress(text_page(content=PROSE), CompressionLevel.REDUCED)
    assert result.tokens_saved > 0


async def test_data_stays_data_and_a_reference_names_its_keys() -> None:
    rows = [{"id": number, "text": "some words " * 10} for number in range(50)]
    page = MemoryPage(page_id="d1", modality=Modality.STRUCTURED, content={"rows": rows, "total": 50})
    reduced = await REGISTRY.compress(page, CompressionLevel.REDUCED)
    assert reduced.page.content["total"] == 50
    assert reduced.compressed_tokens < page.estimate_tokens()
    reference = await REGISTRY.compress(page, CompressionLevel.REFERENCE)
    assert "rows" in json.dumps(reference.page.content)
    assert reference.page.full.content["rows"] == rows


async def test_a_picture_is_its_caption_then_its_name() -> None:
    picture = MemoryPage(
        page_id="img42", modality=Modality.IMAGE, content=b"\x89PNG", size_tokens=200, caption="A cat on a mat"
    )
    reduced, abstract, reference = [await REGISTRY.compress(picture, CompressionLevel(level)) for level in (1, 2, 3)]
    assert (reduced.page.content, reduced.tokens_saved) == (b"\x89PNG", 0)
    assert abstract.page.content == "A cat on a mat"
    assert str(reference.page.content).startswith("image:img42")
    unknown = MemoryPage(page_id="i", modality=Modality.IMAGE, content=b"\x89PNG", size_tokens=200)
    assert (await REGISTRY.compress(unknown, CompressionLevel.ABSTRACT)).page.content == "[IMAGE]"


def picture(mode: str, colour: tuple[int, ...]) -> bytes:
    written = BytesIO()
    Image.new(mode, (1_600, 800), colour).save(written, "PNG", compress_level=0)
    return written.getvalue()


@pytest.mark.parametrize(("mode", "colour", "format_"), [("RGB", (200, 0, 0), "JPEG"), ("RGBA", (200, 0, 0, 9), "PNG")])
async def test_a_picture_is_a_thumbnail_before_it_is_words(mode: str, colour: tuple[int, ...], format_: str) -> None:
    page = MemoryPage(page_id="i1", modality=Modality.IMAGE, content=picture(mode, colour), caption="All red")
    registry = CompressorRegistry.default()
    registry.register(Modality.IMAGE, ImageCompressor(thumbnail=make_thumbnail))
    result = await registry.compress(page, CompressionLevel.REDUCED)
    assert isinstance(result.page.content, bytes)
    assert result.page.size_bytes == len(result.page.content) < len(page.content)
    with Image.open(BytesIO(result.page.content)) as shown:
        assert (shown.format, shown.size) == (format_, (512, 256))
    assert result.page.full == page
    with pytest.raises(UnidentifiedImageError):
        make_thumbnail(b"no picture")


async def test_a_thumbnail_that_is_larger_is_not_used() -> None:
    page = MemoryPage(page_id="i1", modality=Modality.IMAGE, content=b"tiny")
    made = await ImageCompressor(thumbnail=lambda image: image * 2).compress(page, CompressionLevel.REDUCED)
    assert made.page.content == b"tiny"


@pytest.mark.parametrize("modality", [Modality.AUDIO, Modality.VIDEO])
async def test_sound_is_what_was_said_in_it(modality: Modality) -> None:
    page = MemoryPage(page_id="m1", modality=modality, content=b"", transcript=PROSE, duration_seconds=61)
    reduced, _, reference = [await REGISTRY.compress(page, CompressionLevel(level)) for level in (1, 2, 3)]
    assert "14:20" in reduced.page.content
    assert reduced.tokens_saved > 0
    assert str(reference.page.content).startswith(f"{modality.value}:m1 (")
    assert "61 s" in reference.page.content


class Forgetful:
    """An application's own compressor, which knows nothing of originals."""

    supported_modality = Modality.TEXT

    def can_compress(self, current_level: CompressionLevel, target_level: CompressionLevel) -> bool:
        return target_level > current_level

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        made = MemoryPage(page_id=page.page_id, content="short", compression_level=target_level)
        return CompressionResult(
            page=made,
            original_tokens=page.estimate_tokens(),
            compressed_tokens=1,
            level_before=page.compression_level,
            level_after=target_level,
        )


async def test_a_registry_keeps_the_original_for_whoever_does_not() -> None:
    registry = CompressorRegistry()
    assert isinstance(registry.get(Modality.TEXT), PassthroughCompressor)
    compressor = Forgetful()
    assert isinstance(compressor, Compressor)
    registry.register(Modality.TEXT, compressor)
    page = text_page(content=PROSE)
    made = (await registry.compress(page, CompressionLevel.ABSTRACT)).page
    assert (made.content, made.full) == ("short", page)
