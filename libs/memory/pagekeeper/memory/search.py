"""Full text search over the pages of one session.

An SQLite FTS5 index in memory: stemmed (English), accents folded, by BM25. What its tokenizer would miss is added to
the text before it sees it: the parts of `snake_case` and `CamelCase`, and versions, dates and dotted names as one word;
scripts that write no spaces (Chinese, Japanese, Korean, Thai and their kin) become overlapping pairs of characters.

Invariant: the index answers for exactly the pages that were added and not removed, in an order that depends on nothing
else. A query is words, never syntax: no character in it has a meaning. The index is derived: it may be thrown away and
built again. A connection belongs to one thread, so an index does too.
"""

import json
import re
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import log1p
from typing import Final

from pagekeeper.memory.pages import Modality, PageType
from pagekeeper.memory.sentences import STOPWORDS

TEXT_CHARS_MAX: Final = 262_144
"""What is indexed of one page: beyond it, words are not found."""
QUERY_CHARS_MAX: Final = 16_384
QUERY_TERMS_MAX: Final = 48
CANDIDATES_MAX: Final = 1_000
"""Once its rarest words have as many pages together, a query's other words only order them."""
SNIPPET_CHARS: Final = 160
_HINT_WEIGHT: Final = 0.5
_BOOST: Final = {PageType.CLAIM: 1.15, PageType.SUMMARY: 1.1, PageType.PROCEDURE: 1.1}

_NO_SPACES: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_NO_SPACES}]+")
# Marks that are drawn on or around a letter are part of its word, which `\w` does not know.
_MARKS: Final = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u06d6-\u06dc\u0730-\u074a\u0900-\u0963\u0966-\u0dff"
    "\u0f18-\u0f84\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_WORD: Final = re.compile(rf"[\w{_MARKS}]+")
_WORDS_JOINED: Final = re.compile(rf"[\w{_MARKS}]+(?:[._:/@#-][\w{_MARKS}]+)*")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_PARTS_MAX: Final = 12
"""A word of more parts is a digest or encoded data, and found whole or not at all."""
_CONTRACTED: Final = frozenset(
    (
        "don",
        "didn",
        "doesn",
        "isn",
        "wasn",
        "aren",
        "weren",
        "couldn",
        "wouldn",
        "shouldn",
        "hasn",
        "haven",
        "hadn",
        "ll",
        "ve",
        "re",
    )
)
_OCCURRENCES_MAX: Final = 4
_SNIPPET_TERMS_MAX: Final = 12

_SCHEMA: Final = """
    PRAGMA journal_mode = OFF;
    CREATE TABLE pages (
        id INTEGER PRIMARY KEY,
        page_id TEXT, modality TEXT, page_type TEXT, turn INTEGER, boost REAL, body TEXT, hint TEXT
    );
    CREATE VIRTUAL TABLE words USING fts5(
        body, hint, content = '',
        tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc' tokenchars '_'"
    );
    BEGIN;
"""
_RANK: Final = """
    SELECT page_id, pages.id, -bm25(words, 1.0, :hint_weight) * boost AS score
    FROM words JOIN pages ON pages.id = words.rowid
    WHERE words MATCH :expression
        AND (:modality IS NULL OR modality = :modality)
        AND (:page_types IS NULL OR page_type IN (SELECT value FROM json_each(:page_types)))
        AND turn BETWEEN :from_turn AND :to_turn
    ORDER BY score DESC, page_id
    LIMIT :limit
"""
_LAST_TURN: Final = 2**62


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which pages may be found; turns are inclusive, None and no type mean any."""

    modality: Modality | None = None
    page_types: Collection[PageType] = ()
    from_turn: int = 0
    to_turn: int = _LAST_TURN
    exclude: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """`relevance` from 0 to 1: how much of what the query asks for the best page has, less for those after it."""

    page_id: str
    relevance: float


@dataclass(frozen=True, slots=True)
class Found:
    """`snippet` is a slice of the page around what matched, white space folded; of the hint when only that matched."""

    page_id: str
    relevance: float
    snippet: str


EVERYTHING: Final = SearchFilter()


class SessionIndex:
    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._ids: dict[str, int] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, page_id: str) -> bool:
        return page_id in self._ids

    @property
    def size_bytes(self) -> int:
        """What the database takes."""
        return int(self._scalar("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()", ()))

    def close(self) -> None:
        self._database.close()

    def add(
        self,
        page_id: str,
        text: str,
        hint: str = "",
        *,
        modality: Modality = Modality.TEXT,
        page_type: PageType = PageType.TRANSCRIPT,
        turn: int = 0,
    ) -> None:
        """Index a page. KeyError when it is indexed already."""
        if page_id in self._ids:
            raise KeyError(page_id)
        body, hint = _storable(text), _storable(hint)
        row = self._next_id
        self._database.execute(
            "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row, page_id, modality.value, page_type.value, turn, _BOOST.get(page_type, 1.0), body, hint),
        )
        self._database.execute(
            "INSERT INTO words (rowid, body, hint) VALUES (?, ?, ?)", (row, _indexable(body), _indexable(hint))
        )
        self._ids[page_id] = row
        self._next_id += 1

    def replace(
        self,
        page_id: str,
        text: str,
        hint: str = "",
        *,
        modality: Modality = Modality.TEXT,
        page_type: PageType = PageType.TRANSCRIPT,
        turn: int = 0,
    ) -> None:
        """Index a page instead of what was indexed under its id, if anything was."""
        if page_id in self._ids:
            self.remove(page_id)
        self.add(page_id, text, hint, modality=modality, page_type=page_type, turn=turn)

    def remove(self, page_id: str) -> None:
        """KeyError when it is not indexed."""
        row = self._ids.pop(page_id)
        body, hint = self._database.execute("SELECT body, hint FROM pages WHERE id = ?", (row,)).fetchone()
        self._database.execute(
            "INSERT INTO words (words, rowid, body, hint) VALUES ('delete', ?, ?, ?)",
            (row, _indexable(body), _indexable(hint)),
        )
        self._database.execute("DELETE FROM pages WHERE id = ?", (row,))

    def rank(self, query: str, *, limit: int, where: SearchFilter = EVERYTHING) -> list[Ranked]:
        """The pages that have any of the query's words, best first; ties by page id."""
        terms = self._known_terms(query)
        if not terms or limit < 1:
            return []
        rows = self._database.execute(
            _RANK,
            {
                "hint_weight": _HINT_WEIGHT,
                "expression": _expression(terms),
                "modality": where.modality,
                "page_types": json.dumps(sorted(where.page_types)) if where.page_types else None,
                "from_turn": where.from_turn,
                "to_turn": where.to_turn,
                "limit": limit + len(where.exclude),
            },
        ).fetchall()
        excluded = frozenset(where.exclude)
        scored = [(page_id, row, score) for page_id, row, score in rows if page_id not in excluded][:limit]
        if not scored:
            return []
        best = scored[0][2]
        covered = self._covered(scored[0][1], terms)
        return [Ranked(page_id, covered * score / best) for page_id, _, score in scored]

    def search(self, query: str, *, limit: int, where: SearchFilter = EVERYTHING) -> list[Found]:
        """`rank`, with the passage of each page that matched."""
        found = []
        roots = [_root(word) for word in query_terms(query)[:_SNIPPET_TERMS_MAX]]
        for page in self.rank(query, limit=limit, where=where):
            row = self._ids[page.page_id]
            body, hint = self._database.execute("SELECT body, hint FROM pages WHERE id = ?", (row,)).fetchone()
            found.append(Found(page.page_id, page.relevance, _snippet(body, roots) or _snippet(hint, roots) or hint))
        return found

    def _known_terms(self, query: str) -> dict[str, int]:
        """The query's words that some page has, with the number of pages, the rarest first."""
        counts = {term: self._pages_with(term) for term in query_terms(query)}
        return dict(sorted(((term, pages) for term, pages in counts.items() if pages), key=lambda item: item[1]))

    def _pages_with(self, term: str) -> int:
        return int(self._scalar("SELECT count(*) FROM words WHERE words MATCH ?", (_phrase(term),)))

    def _covered(self, row: int, terms: dict[str, int]) -> float:
        """The share of the query that a page has, each word weighing what it says about a page."""
        weights = {term: log1p(len(self._ids) / pages) for term, pages in terms.items()}
        had = sum(
            weight
            for term, weight in weights.items()
            if self._scalar("SELECT count(*) FROM words WHERE words MATCH ? AND rowid = ?", (_phrase(term), row))
        )
        return float(had / sum(weights.values()))

    def _scalar(self, statement: str, values: tuple[object, ...]) -> int:
        (value,) = self._database.execute(statement, values).fetchone()
        return int(value)


def query_terms(query: str) -> list[str]:
    """The words to look for, each once, in order: without those that every question has, unless it has no others."""
    words = [word.lower() for word in _WORD.findall(_indexable(_storable(query[:QUERY_CHARS_MAX])))]
    return list(dict.fromkeys([word for word in words if _is_telling(word)] or words))[:QUERY_TERMS_MAX]


def _is_telling(word: str) -> bool:
    if len(word) == 1:
        return word.isdigit() or not word.isascii()
    return word not in STOPWORDS and word not in _CONTRACTED


def _indexable(text: str) -> str:
    """`text` and, behind it, what its tokenizer would not see in it."""
    extra: list[str] = []
    for joined in _WORDS_JOINED.findall(text):
        if not joined.isalpha() or not (joined.islower() or joined.istitle()):
            extra.extend(_spelled_apart(joined))
    if not text.isascii() and _RUN.search(text) is not None:
        extra.extend(pair for run in _RUN.findall(text) for pair in _pairs(run))
        text = _RUN.sub(" ", text)
    return f"{text} {' '.join(extra)}" if extra else text


def _spelled_apart(joined: str) -> Iterable[str]:
    """The parts that the tokenizer would leave together, and all parts as one word."""
    every: list[str] = []
    for word in _WORD.findall(joined):
        parts = [part.lower() for part in _PART.findall(word)]
        if len(parts) > _PARTS_MAX:
            return
        if parts != [word.lower()]:
            yield from parts
        every += parts
    if 1 < len(every) <= _PARTS_MAX:
        yield "_".join(every)


def _pairs(run: str) -> Iterable[str]:
    """Overlapping pairs, and the last character alone, so that a single character is found by its prefix."""
    yield from (run[i : i + 2] for i in range(len(run) - 1))
    yield run[-1]


def _phrase(term: str) -> str:
    """A term as FTS5 reads it: in quotes, where only a quote has a meaning, and terms have none."""
    prefix = "*" if len(term) == 1 and _RUN.fullmatch(term) else ""
    return f'"{term}"{prefix}'


def _expression(terms: dict[str, int]) -> str:
    """Any of the terms; when that would be too many pages, any of the rarest, ordered by all of them."""
    rare: list[str] = []
    pages_so_far = 0
    for term, pages in terms.items():
        if rare and pages_so_far + pages > CANDIDATES_MAX:
            break
        rare.append(_phrase(term))
        pages_so_far += pages
    common = [_phrase(term) for term in list(terms)[len(rare) :]]
    needed = " OR ".join(rare)
    return f"({needed}) AND (({needed}) OR {' OR '.join(common)})" if common else needed


def _storable(text: str) -> str:
    """What UTF-8 can hold, without NUL, and no more than is indexed."""
    text = text[:TEXT_CHARS_MAX].replace("\x00", " ")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _root(term: str) -> str:
    """What a term's inflections begin with, near enough to find the passage that matched."""
    return term if len(term) < 5 else term[: max(4, len(term) - 3)]


def _snippet(text: str, roots: list[str]) -> str:
    """The window of `text` with most of the roots, from a word's start to a word's end; empty when there is none."""
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = text
    positions = sorted((at, root) for root in roots for at in _occurrences(lowered, root))
    if not positions:
        return ""
    start, _ = max(
        ((at, _roots_within(positions, at)) for at, _ in positions), key=lambda window: (window[1], -window[0])
    )
    begin = max(0, start - SNIPPET_CHARS // 4)
    if begin:
        begin = text.find(" ", begin, start) + 1 or start
    end = min(len(text), begin + SNIPPET_CHARS)
    if end < len(text):
        end = max(text.rfind(" ", begin, end), begin + SNIPPET_CHARS // 2)
    return " ".join(text[begin:end].split())


def _occurrences(lowered: str, root: str) -> Iterable[int]:
    at = lowered.find(root)
    for _ in range(_OCCURRENCES_MAX):
        if at < 0:
            return
        yield at
        at = lowered.find(root, at + len(root))


def _roots_within(positions: list[tuple[int, str]], start: int) -> int:
    return len({root for at, root in positions if start <= at < start + SNIPPET_CHARS * 3 // 4})
