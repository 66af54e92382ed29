"""A model reads any page to its end, piece by piece, in a stack as in a program's own process."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.pages import MediaDescription, Modality, StorageTier
from pagekeeper.core.payloads import elided
from pagekeeper.core.pieces import piece_at, readable_text, render_piece
from pagekeeper.core.tools import FaultedPage
from pagekeeper.memory import SessionManager
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts, json_documents
from tests.unit.test_one_memory import Both, said
from tests.unit.test_payloads import payload

COUNT = tokenizer(EncodingName.O200K_BASE).count

texts = st.one_of(
    hostile_texts,
    json_documents,
    st.builds(lambda text, times: text * times, hostile_texts, st.integers(1, 60)),
    st.builds(
        lambda seed, size, around: f"{around}{payload(seed, size)} {around}",
        st.integers(0, 99),
        st.integers(300, 900),
        hostile_texts,
    ),
).map(lambda text: text.encode("utf-8", "replace").decode())


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(texts, st.integers(1, 400), st.sampled_from(Modality), st.integers(0, 3))
def test_pieces_are_the_whole_text(text: str, tokens_max: int, modality: Modality, level: int) -> None:
    media = MediaDescription(transcript=text) if modality in (Modality.AUDIO, Modality.VIDEO) and not level else None
    page = FaultedPage("p1", modality, level, StorageTier.L2, text, media)
    whole = readable_text(page)
    read, offset, turns = "", 0, 0
    while True:
        piece = piece_at(whole, offset, tokens_max, COUNT)
        assert piece.offset == len(read)
        envelope = json.loads(render_piece(page, piece))["page"]
        assert envelope["content"]["text"] == piece.text
        assert (envelope["content"]["offset"], envelope["content"]["total_chars"]) == (offset, len(whole))
        assert len(piece.text) <= 1 or COUNT(json.dumps(piece.text, ensure_ascii=False)) <= 2 * tokens_max
        read += piece.text
        turns += 1
        assert turns <= len(whole) + 1
        if not piece.next_offset:
            break
        assert str(piece.next_offset) in envelope["content"]["note"]
        offset = piece.next_offset
    assert read == whole
    if media is None:
        assert whole == elided(text)


@given(hostile_texts, st.integers(1, 10))
def test_an_offset_behind_the_end_is_refused(text: str, beyond: int) -> None:
    with pytest.raises(InvalidField, match=f"{len(text):,}"):
        piece_at(text, len(text) + beyond, 100, COUNT)
    assert piece_at(text, len(text), 100, COUNT).text == ""


async def asked(sm: SessionManager, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - of a tool
    call = {"id": "c1", "type": "function", "function": {"name": "page_fault", "arguments": json.dumps(arguments)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = await sm.process_response({"choices": [{"message": message}]})
    assert isinstance(answer, dict)
    envelope: dict[str, Any] = json.loads(answer["tool_results"][0]["content"])
    return envelope


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(200, 900), st.sampled_from(("user", "tool")), st.integers(0, 2))
async def test_a_page_that_can_never_come_in_is_read_to_its_end(rows: int, role: str, level: int) -> None:
    text = "".join(
        f"Clause {n}. The supplier delivers part {n * 37 % 9973} to depot {n % 13} within {n % 29 + 1} days.\n"
        for n in range(rows)
    )
    both = await Both.begin(max_l0_tokens=4_000, reserved_tokens=1_500)
    await both.do(said("user", "Hello."))
    await both.do(said(role, text))
    await both.do(said("assistant", "Thanks."))
    await both.do(said("user", "Read it to me."))
    for sm in (both.there, both.here):
        read, arguments = "", {"page_id": "p2", "target_level": 0}
        while True:
            page = (await asked(sm, **arguments))["page"]
            assert COUNT(page["content"]["text"]) <= 1_000
            read += page["content"]["text"]
            if "next_offset" not in page["content"]:
                break
            arguments = {"page_id": "p2", "target_level": 0, "offset": page["content"]["next_offset"]}
        assert (json.loads(read)["result"] if role == "tool" else read) == text
        beyond = await asked(sm, page_id="p2", offset=len(read) + 1)
        assert beyond["error"] == "invalid_field"
        gone = await asked(sm, page_id="p99", offset=level)
        assert gone["error"] == "page_not_found"
    await both.compare()


async def test_a_piece_brings_nothing_in_and_is_no_fault() -> None:
    both = await Both.begin(max_l0_tokens=4_000, reserved_tokens=1_500)
    await both.do(said("user", "a word " * 200))
    await both.do(said("assistant", "Thanks."))
    before, _ = await both.folded()
    counted = before.revision, before.counters.faults_this_turn
    for sm in (both.there, both.here):
        for _ in range(5):
            page = (await asked(sm, page_id="p1", offset=7))["page"]
            assert page["content"]["text"].startswith("a word a word")
    after, _ = await both.folded()
    assert (after.revision, after.counters.faults_this_turn) == counted
