"""Encoded payloads are shown as a note, priced as the note, kept as they are; everything else is left alone."""

import base64
import json
from collections.abc import Callable
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.hints import make_hint
from pagekeeper.core.packing import ContextPrefix, render_line
from pagekeeper.core.pages import Modality, StorageTier
from pagekeeper.core.payloads import elided
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.tools import FaultedPage, FaultEffects, render_tool_result
from pagekeeper.memory import SessionManager
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts, json_documents

COUNT = tokenizer(EncodingName.O200K_BASE).count
PNG = b"\x89PNG\r\n\x1a\n"
seeds = st.integers(0, 2**32)
sizes = st.integers(300, 6_000)


def payload(seed: int, size: int, beginning: bytes = b"") -> str:
    return base64.b64encode(beginning + Random(seed).randbytes(size - len(beginning))).decode()


def wrapped(data: str, width: int = 76) -> str:
    return "\n".join(data[start : start + width] for start in range(0, len(data), width))


FORMS: Final[dict[str, Callable[[str], str]]] = {
    "bare": str,
    "in lines": wrapped,
    "url-safe": lambda data: data.replace("+", "-").replace("/", "_"),
    "without padding": lambda data: data.rstrip("="),
    "data URL": lambda data: f"data:image/png;base64,{data}",
}


@settings(max_examples=12, deadline=None)
@given(seeds, sizes, st.sampled_from(list(FORMS)))
def test_a_payload_is_a_note_with_its_size(seed: int, size: int, form: str) -> None:
    text = f"here it is: {FORMS[form](payload(seed, size))} and that was it."
    shown = elided(text)
    assert f"{size:,} bytes in base64]" in shown
    assert shown.startswith("here it is: ")
    assert shown.endswith(" and that was it.")
    assert len(shown) < 120
    assert elided(shown) == shown


@settings(max_examples=12, deadline=None)
@given(
    seeds,
    sizes,
    st.sampled_from(list(FORMS)),
    st.sampled_from(("/", "\\/")),
    st.sampled_from(["", ' "quoted" end', "\\"]),
)
def test_json_with_a_payload_stays_json(seed: int, size: int, form: str, slash: str, behind: str) -> None:
    value = {"before": [1, "x"], "data": f"{FORMS[form](payload(seed, size))}{behind}", "after": {"ok": True}}
    text = json.dumps(value)
    shown = json.loads(elided(text.replace("/", slash)))
    assert shown | {"data": ""} == value | {"data": ""}
    assert "bytes in base64]" in shown["data"]
    assert shown["data"].endswith(behind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (json.dumps({"type": "image", "mimeType": "image/webp", "data": payload(1, 900)}), "image/webp"),
        (json.dumps({"data": payload(1, 900), "media_type": "audio/mpeg"}), "audio/mpeg"),
        (payload(1, 900, PNG), "image/png"),
        (payload(1, 900, b"%PDF-1.7"), "application/pdf"),
        (payload(1, 900, b"\xff\xd8\xff\xe0"), "image/jpeg"),
        (f"data:image/gif;base64,{payload(1, 60)}", "image/gif"),
        (f"data:text/plain;charset=utf-8;base64,{payload(1, 60)}", "text/plain"),
        (payload(1, 900), "data"),
    ],
)
def test_the_note_says_the_kind(text: str, kind: str) -> None:
    assert f"[elided: {kind}, " in elided(text)


@given(hostile_texts | json_documents)
def test_other_text_is_left_alone(text: str) -> None:
    assert elided(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 2_000,
        "/usr/local/lib/python3/site-packages/" * 40,
        "a-very-long-slug-of-many-words-" * 40,
        "ACGTTGCA" * 200,
        "0123456789abcdef" * 4,
        Random(1).randbytes(64).hex(),
        payload(1, 96),
        "\\" * 2_000,
        "=" * 2_000,
        f"{'-' * 300}\n| a | b |\n{'-' * 300}",
    ],
)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert elided(text) == text


def test_what_is_shown_of_a_page_has_the_note_and_costs_it() -> None:
    text = json.dumps({"type": "image", "mimeType": "image/png", "data": payload(1, 9_000), "caption": "red banner"})
    line = render_line(ContextPrefix.TOOL, "p1", 0, text)
    assert COUNT(line) < 60
    assert json.loads(line.split(": ", 1)[1])["data"] == "[elided: image/png, 9,000 bytes in base64]"
    assert "red banner" in line
    assert "red banner" in make_hint(text, Modality.STRUCTURED)
    for modality in (Modality.STRUCTURED, Modality.TEXT):
        for made in CompressorRegistry.default().compress_all(Source("p1", modality, text=text * 3), COUNT):
            assert made.tokens < 200
            assert text[60:120] not in made.text
        page = FaultedPage("p1", modality, 0, StorageTier.L0, text)
        assert COUNT(render_tool_result(page, FaultEffects())) < 200
    index = SessionIndex()
    index.add("p1", f"{payload(2, 300_000)} the banner is red")
    assert index.rank("banner", limit=1)


async def test_a_result_in_process_costs_its_note_and_is_kept() -> None:
    sm = SessionManager(enable_vm=True)
    data = payload(3, 9_000)
    await sm.user_says("A picture, please.")
    await sm.tool_used("screenshot", {}, {"mimeType": "image/png", "data": data})
    request = json.dumps(await sm.build_request())
    assert "9,000 bytes in base64" in request
    assert data not in request
    assert (await sm.get_stats()).total_tokens < 500
