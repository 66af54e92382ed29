"""Hints are one short clean line that keeps what somebody would look for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.hints import HINT_CHARS_MAX, make_hint
from pagekeeper.core.pages import MediaDescription, Modality
from tests.unit.hostile_text import hostile_texts, json_documents

sources = hostile_texts | json_documents | st.lists(hostile_texts, max_size=30).map(" ".join)


@given(sources, st.sampled_from(Modality), st.none() | st.builds(MediaDescription, hostile_texts, hostile_texts))
def test_a_hint_is_one_short_visible_line(text: str, modality: Modality, media: MediaDescription | None) -> None:
    hint = make_hint(text, modality, media)
    assert len(hint) <= HINT_CHARS_MAX
    assert len(hint.splitlines()) <= 1
    assert hint == hint.strip()
    assert all(character.isprintable() for character in hint)
    hint.encode()
    assert hint == make_hint(text, modality, media)


@given(sources)
def test_a_hint_of_text_says_only_what_the_text_says(text: str) -> None:
    printable = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    lead, _, keys = make_hint(text, Modality.TEXT).rpartition("; ")
    for part in (lead.removesuffix("…"), *keys.removesuffix("…").split(", ")):
        assert all(word in printable for word in part.split())


@given(hostile_texts)
def test_short_text_is_its_own_hint(text: str) -> None:
    hint = make_hint(text, Modality.TEXT)
    if len(text) <= HINT_CHARS_MAX and text.isprintable():
        assert hint == " ".join(text.split())


FILLING = "We talked about this and that for a while and then about it some more, as one does. " * 6


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"Hey there! Thanks so much! The invoice 2024-117 is unpaid. {FILLING}", ["The invoice 2024-117 is unpaid"]),
        (f"{FILLING}In the end we decided to use PostgreSQL 15.2. {FILLING}", ["decided to use PostgreSQL 15.2"]),
        (
            f"{FILLING}Then Caroline met Dr. Okafor in Lisbon on 7 May 2023. {FILLING}",
            ["Okafor", "Lisbon", "May", "2023"],
        ),
        (f"{FILLING}The API key expires after 90 days, said NASA. {FILLING}", ["90", "API", "NASA"]),
    ],
)
def test_hints_keep_names_numbers_and_decisions(text: str, kept: list[str]) -> None:
    hint = make_hint(text, Modality.TEXT)
    assert all(part in hint for part in kept), hint


def test_hints_of_json_name_keys_and_scalars() -> None:
    value = {"result": 42, "items": [1, 2, 3], "user": {"name": "x", "id": 3}, "ok": True}
    assert make_hint(json.dumps(value), Modality.STRUCTURED) == "result: 42, items[3], user{name, id}, ok: True"
    assert make_hint(json.dumps([value]), Modality.STRUCTURED).startswith("list of 1, result: 42")
    assert make_hint("{not json", Modality.STRUCTURED) == "{not json"
    assert make_hint('{"n": 12345678901234567890.50}', Modality.STRUCTURED) == "n: 12345678901234567890.50"


def test_hints_of_media_say_kind_content_and_size() -> None:
    image = MediaDescription(caption="Architecture diagram", width=1200, height=800)
    audio = MediaDescription(transcript="The key insight is that caches lie.", duration_seconds=342)
    assert make_hint("", Modality.IMAGE, image) == "image: Architecture diagram, 1200x800"
    assert make_hint("", Modality.AUDIO, audio) == "audio: The key insight is that caches lie., 342 s"
    assert make_hint("", Modality.VIDEO, MediaDescription(scenes=("Intro", "Demo"))) == "video: Intro; Demo"
    assert make_hint("", Modality.VIDEO, MediaDescription()) == "video"
