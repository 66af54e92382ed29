"""A prompt is never without the question: whole, else cut with a note and listed, else refused with what it takes."""

import base64
import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagekeeper.core.assembly import assemble_chat
from pagekeeper.core.chat_parts import ChatParts
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import guard_words
from pagekeeper.core.events import PromptLayout, VMMode
from pagekeeper.core.last_words import KEPT_CHARS_MIN, LastWords, words_to_answer
from pagekeeper.core.manifest import AvailablePageEntry, available_line
from pagekeeper.core.pages import Modality, StorageTier
from pagekeeper.core.payloads import elided
from pagekeeper.memory import SessionManager, WorkingSetConfig
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts
from tests.unit.test_prompt import chats, least_budget, limits_for, plain, tokens_by_the_provider

ENCODING = EncodingName.O200K_BASE
COUNT = tokenizer(ENCODING).count
NOTE = re.compile(r"\[([\d,]+) characters of this message are left out here(.*?)\]")

pieces = st.one_of(
    hostile_texts, st.text(max_size=40), st.integers(0, 2**32).map(lambda seed: f"row {seed}: bolt {seed % 97}\n")
)
long_words = st.builds(
    lambda some, times, question: "".join(some) * times + question,
    st.lists(pieces, min_size=1, max_size=12),
    st.integers(1, 40),
    pieces,
).map(lambda text: text.encode("utf-8", "replace").decode())


def payload(seed: int, size: int) -> str:
    return base64.b64encode(Random(seed).randbytes(size)).decode()


def with_words(parts: ChatParts, words: str) -> ChatParts:
    entry = AvailablePageEntry("asked", Modality.TEXT, StorageTier.L2, (0,), "what was asked")
    return replace(parts, user_input=words, input_entry=available_line(entry, parts.layout, COUNT))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data(), long_words, st.integers(0, 4_000))
def test_words_are_whole_or_cut_and_listed_in_every_budget(data: st.DataObject, words: str, room: int) -> None:
    parts = with_words(data.draw(chats(ENCODING)), words)
    budget = least_budget(parts, ENCODING) + room
    chat = assemble_chat(parts, limits_for(parts, ENCODING, budget), COUNT)
    assert tokens_by_the_provider(chat, ENCODING) == chat.tokens.total <= budget
    content = chat.messages[-1].content
    shown = elided(words)
    if not chat.input_chars_missing:
        assert content.endswith(guard_words(shown))
        return
    notes = list(NOTE.finditer(content))
    told = [note for note in notes if int(note[1].replace(",", "")) == chat.input_chars_missing]
    assert told
    assert "asked" in told[-1][2]
    kept = len(shown) - chat.input_chars_missing
    assert kept >= KEPT_CHARS_MIN
    # A header that begins in front of the cut and ends behind it is guarded too.
    ending = guard_words(f"]\n{shown[len(shown) - int(kept * 0.75) :]}").replace("\\:", ":")
    assert content.replace("\\:", ":").endswith(ending)
    assert "asked" in chat.listed


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data(), long_words)
def test_a_refusal_names_what_it_takes(data: st.DataObject, words: str) -> None:
    parts = with_words(data.draw(chats(ENCODING)), words)
    least = least_budget(parts, ENCODING)
    assert assemble_chat(parts, limits_for(parts, ENCODING, least), COUNT).tokens.total <= least
    with pytest.raises(BudgetTooSmall) as refusal:
        assemble_chat(parts, limits_for(parts, ENCODING, least - 1), COUNT)
    assert refusal.value.needed_tokens == least


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), chars=st.integers(5_000, 60_000), mode=st.sampled_from(VMMode), in_a_page=st.booleans())
def test_the_note_says_how_the_rest_is_read(data: st.DataObject, chars: int, mode: VMMode, *, in_a_page: bool) -> None:
    words = "".join(f"row {n}: bolt {n * 7} costs {n % 9} euro\n" for n in range(chars // 25)) + "Which is dearest?"
    parts = replace(with_words(data.draw(chats(ENCODING)), words), mode=mode)
    if not in_a_page:
        parts = replace(parts, input_entry=None)
    chat = assemble_chat(parts, limits_for(parts, ENCODING, least_budget(parts, ENCODING) + 300), COUNT)
    content = chat.messages[-1].content
    assert content.endswith("Which is dearest?")
    how = NOTE.findall(content)[-1][1]
    if not in_a_page:
        assert how == ": they do not fit"
    elif mode is VMMode.PASSIVE:
        assert how == "; page asked has them"
    else:
        offset = int(how.split("offset ")[1].split(" ")[0])
        kept = len(words) - chat.input_chars_missing
        assert offset == kept - int(kept * 0.75)
    # Nearly all of the share that words may take is used.
    assert chat.tokens.input >= 150


@given(st.integers(0, 2**32), st.integers(300, 4_000), hostile_texts, st.sampled_from(PromptLayout))
def test_payloads_in_words_are_notes(seed: int, size: int, around: str, layout: PromptLayout) -> None:
    around = around.encode("utf-8", "replace").decode()
    data = payload(seed, size)
    said = LastWords(f"{around} data:image/png;base64,{data} {around}")
    parts = plain(layout, user_input=said.text)
    content = assemble_chat(parts, limits_for(parts, ENCODING, 1_000_000), COUNT).messages[-1].content
    assert data not in content
    assert f"[elided: image/png, {size:,} bytes in base64]" in content


@given(
    given_words=hostile_texts,
    text=hostile_texts,
    is_input=st.booleans(),
    in_context=st.booleans(),
    any_said=st.booleans(),
)
def test_which_words_a_prompt_ends_with(
    given_words: str, text: str, *, is_input: bool, in_context: bool, any_said: bool
) -> None:
    said = LastWords(text, page_id="p1") if any_said else None
    words = words_to_answer(given_words, said, is_input=is_input, in_context=in_context)
    if given_words:
        assert words.text == given_words
        assert words.page_id in {"", "p1"}
    elif said is not None and (is_input or not in_context):
        assert words is said
    else:
        assert words.text == ""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 900),
    window=st.sampled_from((1_500, 3_000, 8_000)),
    large_results=st.lists(st.booleans(), max_size=3),
    answered_before=st.booleans(),
)
async def test_in_process_no_prompt_is_without_the_question(
    rows: int, window: int, large_results: list[bool], *, answered_before: bool
) -> None:
    sm = SessionManager(enable_vm=True, vm_config=WorkingSetConfig(max_l0_tokens=window, reserved_tokens=window // 2))
    if answered_before:
        await sm.user_says("Hello.")
        await sm.ai_responds("Hi.")
    table = "\n".join(f"row {n}: bolt {n * 7} costs {n % 9} euro, made in hall {n % 5}" for n in range(rows))
    await sm.user_says(f"{table}\nWhich hall makes the dearest bolt?")
    for large in large_results:
        await sm.tool_used("lookup", {}, "hall 3 " * (400 if large else 3))
    messages = (await sm.build_request())["messages"]
    assert messages[-1]["content"].endswith("Which hall makes the dearest bolt?")
