"""The index finds what was said, by any of its words, whatever the query looks like."""

import math
import string
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.pages import Modality, PageType
from pagekeeper.core.search import SearchFilter, SessionIndex
from pagekeeper.core.snippets import SNIPPET_CHARS
from pagekeeper.core.terms import query_terms
from tests.unit.hostile_text import hostile_texts

VOCABULARY = ("alpha", "beta", "gamma", "JWT", "snake_case", "CamelHump", "2.15.1", "日本語", "naïve", "37")
texts = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
page_ids = st.text(string.ascii_lowercase, min_size=1, max_size=2)


def index_of(*pages: str) -> SessionIndex:
    index = SessionIndex()
    for number, text in enumerate(pages):
        index.add(f"p{number}", text)
    return index


def found(index: SessionIndex, query: str, where: SearchFilter | None = None) -> list[str]:
    return [page.page_id for page in index.rank(query, limit=100, where=where or SearchFilter())]


@settings(max_examples=150)
@given(st.lists(st.tuples(page_ids, texts | st.none()), max_size=20), texts)
def test_the_index_is_what_was_added_and_not_removed(history: list[tuple[str, str | None]], query: str) -> None:
    """A long history and a fresh index of what it left answer alike, to the last digit."""
    lived, left = SessionIndex(), dict[str, str]()
    for page_id, text in history:
        if text is not None:
            lived.replace(page_id, text, text[:5])
            left[page_id] = text
        elif page_id in left:
            lived.remove(page_id)
            del left[page_id]
    fresh = SessionIndex()
    for page_id in sorted(left, reverse=True):
        fresh.add(page_id, left[page_id], left[page_id][:5])
    assert len(lived) == len(fresh) == len(left)
    assert lived.search(query, limit=10) == fresh.search(query, limit=10)


@given(st.lists(texts, max_size=8), texts, st.integers(1, 10))
def test_results_are_ordered_bounded_and_share_a_word(pages: list[str], query: str, limit: int) -> None:
    index = index_of(*pages)
    hits = index.search(query, limit=limit)
    assert len(hits) <= limit
    assert all(0 <= hit.relevance <= 1 and not math.isnan(hit.relevance) for hit in hits)
    assert hits == sorted(hits, key=lambda hit: -hit.relevance)
    assert hits == index.search(query, limit=limit)
    words = {word.lower() for word in query.split()}
    for page_id in found(index, query):
        assert words & {word.lower() for word in pages[int(page_id[1:])].split()}
    everyone = {f"p{n}" for n, text in enumerate(pages) if words & {word.lower() for word in text.split()}}
    assert set(found(index, query)) == everyone


@given(hostile_texts, hostile_texts)
def test_any_text_is_a_page_and_any_text_is_a_query(text: str, query: str) -> None:
    index = index_of(text, "something else")
    for hit in index.search(query, limit=5):
        hit.snippet.encode()
        assert len(hit.snippet) <= SNIPPET_CHARS
        assert len(hit.snippet.splitlines()) <= 1
    index.remove("p0")
    assert found(index, text) in ([], ["p1"])


@pytest.mark.parametrize(
    "query",
    ['"', "'; DROP TABLE pages; --", "alpha AND", "NEAR(alpha beta)", "body:alpha", "alpha*", "^alpha", "(", "{", "",
     "alpha NOT beta", "-alpha", "\ud800", "a\x00lpha", " \n", "alpha " * 200_000],
)  # fmt: skip
def test_queries_are_data(query: str) -> None:
    index = index_of("alpha beta", "gamma")
    assert found(index, query) in ([], ["p0"])
    assert found(index, "gamma") == ["p1"]


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("We were running along the rivers", "run river"),
        ("Das naïve Café in São Paulo", "naive cafe sao"),
        ("def get_user_id(request):", "user"),
        ("def get_user_id(request):", "getUserId"),
        ("class HTTPServerError(Exception)", "http server"),
        ("let parseJsonBody = 3", "parse_json_body"),
        ("import os.path.join", "os.path.join"),
        ("import os.path.join", "path"),
        ("upgrade to 2.15.1 of the server", "2.15.1"),
        ("upgrade to v2.15.1 of the server", "v2.15.1"),
        ("invoice INV-2024-117 is unpaid", "inv-2024-117"),
        ("due on 2024-05-07", "2024-05-07"),
        ("it costs $1,299", "1,299"),
        ("mail craig@example.org", "craig@example.org"),
        ("__init__ and _private", "init"),
        ("東京都の天気は晴れです", "天気"),
        ("東京都の天気は晴れです", "晴"),
        ("東京都の天気は晴れで", "で"),
        ("서울특별시의 날씨", "특별시"),
        ("ประเทศไทยสวยมาก", "ไทย"),
        ("हिन्दी में लिखा", "हिन्दी"),
        ("Cafe\u0301 Ole\u0301", "café"),
    ],
)
def test_words_are_found(page: str, query: str) -> None:
    assert found(index_of("nothing of it", page), query) == ["p1"]


def test_a_page_is_found_by_its_id() -> None:
    index = SessionIndex()
    index.add("m_0102", "we keep the ledger in PostgreSQL", modality=Modality.TEXT, turn=3)
    index.add("m_0103", "what does [ref: m_0102] say of the ledger?", turn=4)
    assert found(index, "m_0102") == ["m_0102", "m_0103"]
    assert found(index, "see [ref: m_0102], please") == ["m_0102", "m_0103"]
    assert index.search("m_0102", limit=1)[0].relevance == 1.0
    assert found(index, "m_0102", SearchFilter(exclude=["m_0102"])) == ["m_0103"]
    assert found(index, "m_0102", SearchFilter(from_turn=4)) == ["m_0103"]
    assert found(index, "m_0102", SearchFilter(modality=Modality.IMAGE)) == []
    assert found(index, "m_0102", SearchFilter(page_types=[PageType.CLAIM])) == []
    assert found(index, "m_01") == []


def test_versions_are_not_confused() -> None:
    index = index_of("we run 2.15.1 here", "we run 1.2.15 there", "we run 2.15.10 nowhere")
    assert found(index, "2.15.1")[0] == "p0"


def test_the_words_that_every_question_has_do_not_decide() -> None:
    index = index_of("what did we do about it when they were there", "Caroline researched adoption agencies")
    assert found(index, "What did Caroline research when they were there?")[0] == "p1"
    assert query_terms("What did Caroline research?") == ["caroline", "research"]
    assert query_terms("Who is it?") == ["who", "is", "it"]


def test_claims_come_before_what_says_the_same() -> None:
    index = SessionIndex()
    index.add("a", "We use PostgreSQL", page_type=PageType.TRANSCRIPT)
    index.add("b", "We use PostgreSQL", page_type=PageType.CLAIM)
    index.add("c", "We use PostgreSQL", page_type=PageType.SUMMARY)
    index.add("d", "Unrelated")
    index.add("e", "Unrelated too")
    index.add("f", "Nor this")
    assert found(index, "PostgreSQL") == ["b", "c", "a"]


def test_ties_go_by_page_id() -> None:
    index = SessionIndex()
    for page_id in ("m3", "m1", "m2"):
        index.add(page_id, "same words")
    assert found(index, "words") == ["m1", "m2", "m3"]


def test_filters() -> None:
    index = SessionIndex()
    index.add("t1", "diagram of it", turn=1)
    index.add("i2", "diagram", modality=Modality.IMAGE, turn=2)
    index.add("c3", "the diagram", page_type=PageType.CLAIM, turn=3)
    assert sorted(found(index, "diagram")) == ["c3", "i2", "t1"]
    assert found(index, "diagram", SearchFilter(modality=Modality.IMAGE)) == ["i2"]
    assert found(index, "diagram", SearchFilter(page_types={PageType.CLAIM, PageType.INDEX})) == ["c3"]
    assert sorted(found(index, "diagram", SearchFilter(from_turn=2))) == ["c3", "i2"]
    assert found(index, "diagram", SearchFilter(from_turn=2, to_turn=2)) == ["i2"]
    assert found(index, "diagram", SearchFilter(exclude={"c3", "i2", "gone"})) == ["t1"]
    assert [page.page_id for page in index.rank("diagram", limit=1, where=SearchFilter(exclude=["i2", "c3"]))] == ["t1"]


def test_hints_are_searched_and_weigh_less() -> None:
    index = SessionIndex()
    index.add("hinted", "no such word", "about kubernetes")
    index.add("said", "kubernetes it is", "")
    index.add("other", "nothing")
    index.add("more", "nothing at all")
    assert found(index, "kubernetes") == ["said", "hinted"]
    assert [hit.snippet for hit in index.search("kubernetes", limit=5)] == ["kubernetes it is", "about kubernetes"]


@given(st.integers(0, 899))
def test_the_snippet_of_a_long_page_is_the_passage_that_was_asked_for(number: int) -> None:
    """Of words that stand all over a page, the rare one says which passage is meant."""
    clauses = [
        f"Clause {n}. The supplier shall deliver part {n * 37 % 9973} to depot {n % 13} within {n % 29 + 1} days."
        for n in range(900)
    ]
    [hit] = index_of("\n".join(clauses)).search(f"Clause {number}", limit=1)
    assert clauses[number] in hit.snippet


def test_snippets_are_slices_around_what_matched() -> None:
    filling = "word after word goes by and nothing happens. " * 40
    index = index_of(f"{filling}Then the deadline moved\nto 7 May. {filling}")
    (hit,) = index.search("When is the deadline?", limit=1)
    assert "the deadline moved to 7 May" in hit.snippet
    assert len(hit.snippet) <= SNIPPET_CHARS


def test_many_pages_with_a_common_word_still_obey_the_rare_one() -> None:
    index = SessionIndex()
    for number in range(3_000):
        index.add(f"m{number:04}", f"common talk number {number}")
    index.add("rare", "common axolotl")
    assert found(index, "common axolotl") == ["rare"]
    assert len(index.rank("common", limit=10)) == 10


def test_long_pages_are_indexed_to_their_limit() -> None:
    index = index_of("filler " * 30_000 + "needle", "filler " * 60_000 + "haystack")
    assert found(index, "needle") == ["p0"]
    assert found(index, "haystack") == []


def test_pages_are_added_once_and_removed_once() -> None:
    index = index_of("alpha")
    with pytest.raises(KeyError):
        index.add("p0", "beta")
    index.replace("p0", "beta")
    assert found(index, "alpha beta") == ["p0"]
    assert found(index, "alpha") == []
    assert "p0" in index
    index.remove("p0")
    with pytest.raises(KeyError):
        index.remove("p0")
    assert len(index) == 0
    assert index.size_bytes > 0
    index.close()


def test_an_index_may_be_used_from_any_one_thread_at_a_time() -> None:
    index = index_of("alpha")
    found: list[str] = []

    def search() -> None:
        found.extend(hit.page_id for hit in index.search("alpha", limit=1))

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert found == ["p0"]
    assert [hit.page_id for hit in index.search("alpha", limit=1)] == found
