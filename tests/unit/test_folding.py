"""One word in any of its spellings is found by any other, and plain words are what they were."""

import re
import string
import unicodedata
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.folding import folded, respelled
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.terms import indexable, query_terms
from tests.unit.hostile_text import hostile_texts

WORDS: Final = (
    "turbine", "infrastructure", "Straße", "naïve", "Café", "ffizient", "Ελλάδα", "ὀδυσσεύς", "ёлка", "мой", "Київ",
    "السِّرِّيُّ", "محمد", "المدرسة", "أحمد", "שָׁלוֹם", "서버주소는", "がっこう", "ハンカク", "हिन्दी", "ABC123", "İstanbul",
    "ﬁre", "Ⅷ", "東京都", "Nguyễn", "Łódź", "2024", "１２３４",
)  # fmt: skip
IGNORABLES: Final = "\u00ad\u034f\u200b\u200c\u200d\u2060\ufeff\ufe0f\U000e0041\u3164"


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def sprinkled(ignorable: str) -> Callable[[str], str]:
    return ignorable.join


SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "upper": str.upper,
    "lower": str.lower,
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "wide": wide,
    "styled": lambda text: f"\x1b[31m{text}\x1b[0m",
    "styled inside": lambda text: f"{text[0]}\x1b[1;4m{text[1:]}\x1b[K",
    "in a title": lambda text: f"\x1b]0;{text}\x07",
    **{f"with U+{ord(c):04X}": sprinkled(c) for c in IGNORABLES},
}
ARABIC: Final[dict[str, Callable[[str], str]]] = {
    "without points": lambda text: re.sub("[\u064b-\u065f]", "", text),
    "with tatweel": "\u0640".join,
    "Persian letters": lambda text: text.replace("\u064a", "\u06cc"),
}
spellings = st.sampled_from(list(SPELLINGS.values()))


def found(page: str, query: str) -> bool:
    index = SessionIndex()
    index.add("other", "nothing of it")
    index.add("page", page)
    return "page" in [hit.page_id for hit in index.rank(query, limit=9)]


@given(hostile_texts | st.text(max_size=40))
def test_folding_twice_is_folding_once(text: str) -> None:
    shown = respelled(text)
    assert respelled(shown) == shown
    assert folded(folded(shown)) == folded(shown)


def test_every_character_folds_to_what_stays() -> None:
    for code_point in (*range(0x3400), *range(0xA000, 0xABFF), *range(0xF900, 0x10000), *range(0x1D400, 0x1F000)):
        once = folded(respelled(chr(code_point)))
        assert folded(respelled(once)) == once, f"U+{code_point:04X}"


@given(st.text(string.printable.replace("\\", ""), max_size=80))
def test_ascii_stays_as_it_is(text: str) -> None:
    assert respelled(text) == text
    assert folded(text) == text


@given(st.lists(st.text(string.ascii_letters, min_size=2, max_size=9), min_size=1, max_size=9))
def test_typographical_signs_change_no_english_word(words: list[str]) -> None:
    plain, drawn = " ".join(words), "\u201c" + " \u2014 ".join(words) + "\u2026\u201d"
    assert query_terms(plain) == query_terms(drawn)
    assert re.findall(r"\w+", indexable(plain)) == re.findall(r"\w+", indexable(drawn))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_word_is_found_by_each_of_its_spellings(spelling: str) -> None:
    plain, spelled = SessionIndex(), SessionIndex()
    for word in WORDS:
        plain.add(word, f"the {word} here")
        spelled.add(word, f"the {SPELLINGS[spelling](word)} here")
    for word in WORDS:
        assert spelled.rank(word, limit=1)[0].page_id == word
        assert word in [hit.page_id for hit in plain.rank(SPELLINGS[spelling](word), limit=5)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WORDS), spellings, spellings)
def test_any_two_spellings_meet(word: str, one: Callable[[str], str], other: Callable[[str], str]) -> None:
    assert found(f"before {one(word)} behind", other(word))


@pytest.mark.parametrize("word", ["السِّرِّيُّ", "محمد", "المدرسة", "أحمد", "يوميات"])
@pytest.mark.parametrize("spelling", ARABIC)
def test_an_arabic_word_is_found_by_each_of_its_spellings(word: str, spelling: str) -> None:
    other = ARABIC[spelling](word)
    assert found(f"قال {other} إن", word)
    assert found(f"قال {word} إن", other)


SEPARATORS: Final = ",.'\u2019_ \xa0\u202f\u2009"


@settings(max_examples=20, deadline=None)
@given(st.integers(1_000, 10**9), st.sampled_from(SEPARATORS), st.sampled_from(SEPARATORS))
def test_a_number_is_found_however_it_is_grouped(number: int, one: str, other: str) -> None:
    written = f"{number:,}"
    spelled = [f"{number}", written.replace(",", one), written.replace(",", other)]
    for page in spelled:
        assert all(found(f"it costs {page} in all", query) for query in spelled)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from("\u0660\u06f0\u0966\u0e50\uff10\U0001d7ce"), spellings)
def test_digits_of_every_script_are_digits(number: int, zero: str, spelling: Callable[[str], str]) -> None:
    written = "".join(chr(ord(zero) + int(digit)) for digit in str(number))
    assert found(f"room {written} there", spelling(str(number)))
    assert found(f"room {number} there", spelling(written))


@pytest.mark.parametrize(
    "glued",
    ["\\n{}", "first\\n{}\\nlast", '"\\t{}"', "\\u001b[31m{}\\u001b[0m", "\\x1b[1m{}\\x1b[m", "\\033[1m{}",
     "\\e[0;1m{}", '{{"log":"a\\r\\n{}\\n"}}', "\\\\n{}", "\x07{}", "\x9b31m{}"],
)  # fmt: skip
@pytest.mark.parametrize("word", ["turbine", "neue", "über"])
def test_a_word_behind_an_escape_is_found(glued: str, word: str) -> None:
    assert found(glued.format(word), word)


def test_a_path_is_still_found_by_its_parts() -> None:
    assert found("C:\\new\\turbine\\report", "new")
    assert found("C:\\new\\turbine\\report", "turbine")


def test_words_written_as_code_points_are_found() -> None:
    assert found('{"name": "caf\\u00e9 M\\u00fcnchen"}', "München")
    assert found('{"name": "caf\\u00e9"}', "cafe")


@pytest.mark.parametrize("emoji", ["🚀", "❤\ufe0f", "❤", "👍\U0001f3fd", "👩\u200d🚒", "🇩🇪"])
def test_an_emoji_is_found(emoji: str) -> None:
    assert found(f"we ship it {emoji}!", emoji)
    assert not found("we ship it", emoji)
    assert found(f"we ship it {emoji}!", "ship")


def test_both_sides_of_a_break_that_is_not_drawn_are_found() -> None:
    for query in ("gatecode", "gate", "code"):
        assert found("the gate\u200bcode is Falcon", query)


def test_a_snippet_shows_what_was_found_in_another_spelling() -> None:
    index = SessionIndex()
    index.add("p", f"{'nothing of it. ' * 60}Die ＡＢＣ１２３ steht in der Straße. {'and more. ' * 60}")
    for query in ("ABC123", "STRASSE"):
        assert "ＡＢＣ１２３" in index.search(query, limit=1)[0].snippet


def test_a_result_is_found_by_the_id_of_its_call() -> None:
    index = SessionIndex()
    index.add("p1", "the weather is fine", tool_call_id="call_AbC-1")
    index.add("p2", "a mention of something else")
    assert [hit.page_id for hit in index.rank("what did call_AbC-1 say?", limit=5)] == ["p1"]
    index.remove("p1")
    assert index.rank("call_AbC-1", limit=5) == []


@pytest.mark.parametrize("name", ["user:123", "C01/1699.12", "ada@example.org", "call_1:0", "a.b#7"])
def test_an_id_in_a_text_is_found_exactly(name: str) -> None:
    index = SessionIndex()
    index.add("p2", f"opened by {name}4 today")
    index.add("p1", f"opened by {name} today")
    assert index.rank(name, limit=5)[0].page_id == "p1"
