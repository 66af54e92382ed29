"""A summariser behind a socket: its words take a level's place when they are shorter, and nothing else changes."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import DECODED
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.pages import CompressionLevel, Modality
from pagekeeper.core.previews import Preview
from pagekeeper.fault_handler.main import open_summariser
from pagekeeper.fault_handler.summarising import SUMMARISED_TOKENS_MIN, ChatSummariser, NoSummariser
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import SummariserSettings
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.integration.http_endpoint import answering

COUNT = tokenizer(EncodingName.O200K_BASE).count
PAGE = Source(
    "p1",
    Modality.TEXT,
    " ".join(f"In week {n} the crew of the Aurora sold {n * 7} nets in Bergen, and nobody minded." for n in range(30)),
)
MADE = CompressorRegistry.default().compress_all(PAGE, COUNT)
Answer = Callable[[dict[str, object]], tuple[int, object]]


class Endpoint:
    """Answers completions over HTTP as it is told, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[dict[str, object]] = []
        self.heads: list[bytes] = []

    def __call__(self, head: bytes, data: bytes) -> tuple[int, bytes]:
        asked = json.loads(data)
        self.heads.append(head)
        self.asked.append(asked)
        status, body = self.answer(asked)
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


@asynccontextmanager
async def endpoint(answer: Answer, *, sees: bool = False) -> AsyncIterator[tuple[Endpoint, ChatSummariser]]:
    one = Endpoint(answer)
    async with answering(one) as address:
        summariser = ChatSummariser(f"{address}/v1/", "small", "s3cret", COUNT, sees=sees)
        try:
            yield one, summariser
        finally:
            await summariser.close()


def saying(text: object) -> Answer:
    return lambda _asked: (200, {"choices": [{"message": {"content": text}}]})


async def test_a_shorter_text_takes_the_levels_place() -> None:
    async with endpoint(saying(" The Aurora's crew sold nets in Bergen for 30 weeks.\n")) as (one, summariser):
        rewritten = await summariser.rewrite(PAGE, MADE)
    text = "The Aurora's crew sold nets in Bergen for 30 weeks."
    assert [made.level for made in rewritten] == [made.level for made in MADE]
    assert rewritten[0] == Compressed(CompressionLevel.REDUCED, text, COUNT(text), "model:small")
    assert rewritten[-1] == MADE[-1], "its topics need no model"
    assert [asked["model"] for asked in one.asked] == ["small"] * (len(MADE) - 1)
    assert all(PAGE.text in json.dumps(asked["messages"]) for asked in one.asked)
    assert all(b"authorization: bearer s3cret" in head.lower() for head in one.heads)


@pytest.mark.parametrize(
    "answer",
    [
        saying("word " * 2_000),
        saying("  "),
        saying(None),
        lambda _asked: (200, b"no JSON"),
        lambda _asked: (200, {"choices": []}),
        lambda _asked: (500, {"error": {"message": "out of memory"}}),
    ],
)
async def test_levels_stay_as_they_were_when_the_model_fails(answer: Answer) -> None:
    async with endpoint(answer) as (_, summariser):
        assert await summariser.rewrite(PAGE, MADE) == MADE


async def test_a_failure_is_in_the_log_and_the_key_is_not(caplog: pytest.LogCaptureFixture) -> None:
    nobody = ChatSummariser("http://127.0.0.1:9/v1", "small", "s3cret", COUNT)
    with caplog.at_level(logging.WARNING):
        assert await nobody.rewrite(PAGE, MADE) == MADE
    await nobody.close()
    assert "a page is not summarised: ConnectError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_short_page_is_not_sent() -> None:
    short = Source("p2", Modality.TEXT, "The crew met in Bergen, and they all agreed on the price of the nets.")
    assert COUNT(short.text) < SUMMARISED_TOKENS_MIN
    made = CompressorRegistry.default().compress_all(short, COUNT)
    async with endpoint(saying("Nets.")) as (one, summariser):
        assert await summariser.rewrite(short, made) == made
    assert not one.asked


PHOTO = Source("i1", Modality.IMAGE, "The harbour")
SHOWN = [
    Compressed(
        CompressionLevel.REDUCED, "The harbour", COUNT("The harbour"), DECODED, Preview("image/png", b"\x89PNG")
    ),
    Compressed(CompressionLevel.REFERENCE, "image:i1", COUNT("image:i1"), "description/1"),
]


async def test_what_a_model_sees_in_a_preview_is_put_before_its_text() -> None:
    async with endpoint(saying("Two trawlers at a quay, the nearer one named Aurora."), sees=True) as (one, summariser):
        described, reference = await summariser.rewrite(PHOTO, SHOWN)
    text = "Two trawlers at a quay, the nearer one named Aurora.\nThe harbour"
    assert described == replace(SHOWN[0], text=text, tokens=COUNT(text), compressor="model:small")
    assert reference == SHOWN[1]
    [asked] = one.asked
    assert '{"url": "data:image/png;base64,iVBORw=="}' in json.dumps(asked["messages"])


@pytest.mark.parametrize("answer", [saying("word " * 200), saying(" "), lambda _asked: (500, {})])
async def test_a_preview_that_a_model_fails_to_describe_stays(answer: Answer) -> None:
    async with endpoint(answer, sees=True) as (_, summariser):
        assert await summariser.rewrite(PHOTO, SHOWN) == SHOWN


async def test_a_model_that_sees_nothing_is_sent_no_picture() -> None:
    async with endpoint(saying("Nets.")) as (one, summariser):
        assert await summariser.rewrite(PHOTO, SHOWN) == SHOWN
    assert not one.asked


def test_an_endpoint_needs_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_summariser(SummariserSettings()), NoSummariser)
    monkeypatch.setenv("PK_SUMMARISER_URL", "http://127.0.0.1:8080/v1")
    with pytest.raises(CannotStart, match="PK_SUMMARISER_MODEL"):
        open_summariser(SummariserSettings())
    monkeypatch.setenv("PK_SUMMARISER_MODEL", "small")
    assert isinstance(open_summariser(SummariserSettings()), ChatSummariser)
