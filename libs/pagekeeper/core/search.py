"""Full text search over the pages of one session.

An SQLite FTS5 index in memory: stemmed (English), accents folded, by BM25, of texts as `terms` prepares them. Beside
its words a page has a vector, when there is a model, and what it weighs in a recall.

Invariant: the index answers for exactly the pages that were added and not removed, in an order that depends on nothing
else. A query is words, never syntax: no character in it has a meaning. The index is derived: it may be thrown away and
built again. It may be used from any thread, one at a time.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from math import log1p
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pagekeeper.core.embedding import Embedder, Floats, Vectors, WordsAlone
from pagekeeper.core.pages import MessageRole, Modality, PageType
from pagekeeper.core.recall_intent import RecallIntent, is_standing_wish, recall_intent_of
from pagekeeper.core.sentences import SPEAKER_WORDS_MAX, speaker_of, words_of_names
from pagekeeper.core.snippets import roots_of, snippet
from pagekeeper.core.terms import QUERY_CHARS_MAX, indexable, is_unspaced, query_terms, storable

CANDIDATES_MAX: Final = 1_000
"""Once its rarest words have as many pages together, a query's other words only order them."""
_HINT_WEIGHT: Final = 0.5
"""BM25's weight of a word in the hint, beside 1 in the text."""
_JUDGED_CHARS: Final = 2_000
"""Where wishes are looked for."""
EMBEDDED_CHARS_MAX: Final = 16_384
"""What is embedded of one page: a longer text has no one meaning."""
_CHARS_A_TOKEN: Final = 4
_CONNECTION_BYTES: Final = 64 * 1024
"""An SQLite connection with its schema and statements: measured, the resident memory of 200 empty indexes."""
_UNMERGED_FACTOR: Final = 3
_UNMERGED_BYTES_MAX: Final = 1024 * 1024
"""FTS5 keeps words that are not merged yet in a hash of 1 MiB at most, about three bytes for a byte of text: measured,
the resident memory of indexes of 16 and of 200 pages."""
_AROUND_AN_ID: Final = "\"'`()[]{}<>.,;:!?"
"""What an id is written in, as in a citation."""


_SCHEMA: Final = """
    PRAGMA journal_mode = OFF;
    CREATE TABLE pages (
        id INTEGER PRIMARY KEY,
        page_id TEXT, modality TEXT, page_type TEXT, turn INTEGER, body TEXT, hint TEXT,
        digest INTEGER, recalls INTEGER, tool_call_id TEXT
    );
    CREATE INDEX calls ON pages (tool_call_id) WHERE tool_call_id <> '';
    CREATE INDEX digests ON pages (digest);
    CREATE INDEX recalling ON pages (turn) WHERE recalls;
    CREATE VIRTUAL TABLE words USING fts5(
        body, hint, content = '',
        tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc' tokenchars '_'"
    );
    BEGIN;
"""
_RANK: Final = """
    SELECT page_id, pages.id, -bm25(words, 1.0, :hint_weight) AS score
    FROM words JOIN pages ON pages.id = words.rowid
    WHERE words MATCH :expression
        AND (:modality IS NULL OR modality = :modality)
        AND (:page_types IS NULL OR page_type IN (SELECT value FROM json_each(:page_types)))
        AND turn BETWEEN :from_turn AND :to_turn
    ORDER BY score DESC, page_type NOT IN ('claim', 'summary', 'procedure'), page_id
    LIMIT :limit
"""
_SCORE: Final = "SELECT rowid, -bm25(words, 1.0, :hint_weight) FROM words WHERE words MATCH :expression"
_SAYING: Final = "SELECT id FROM pages WHERE digest = :digest AND body = :text ORDER BY id"
_RECALL_TURNS: Final = "SELECT count(DISTINCT turn) FROM pages WHERE recalls AND turn >= ? AND body <> ?"
_ANSWERING: Final = """
    SELECT page_id FROM pages WHERE tool_call_id <> '' AND tool_call_id IN (SELECT value FROM json_each(?)) ORDER BY id
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


@dataclass(frozen=True, slots=True)
class IndexedPages:
    """The pages of an index in the order they were added first, as columns; `rows` is where scores have them.

    `sizes_tokens` is estimated from the text's length; `by_model` and `by_tool` say who wrote a page, `asking` that it
    ends with a question mark, `wishing` that a user says how things are to be done from now on; `speakers` says by
    number who a page says is speaking, 0 where it does not.
    """

    rows: NDArray[np.int64]
    sizes_tokens: Floats
    by_model: NDArray[np.bool_]
    by_tool: NDArray[np.bool_]
    asking: NDArray[np.bool_]
    wishing: NDArray[np.bool_]
    speakers: Floats


EVERYTHING: Final = SearchFilter()
_WORDS_ALONE: Final = WordsAlone()
_ROWS_AT_FIRST: Final = 64
_TRAITS: Final = 7
"""Columns of what is known of a page beside its words: whether it is there, then those of `IndexedPages`."""


class SessionIndex:
    """A page that is replaced keeps its place in the order."""

    def __init__(self, embedder: Embedder = _WORDS_ALONE) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self._embedder = embedder
        self._vectors = Vectors(embedder.dimensions)
        self._ids: dict[str, int] = {}
        self._page_ids = [""]
        self._traits = np.zeros((_ROWS_AT_FIRST, _TRAITS), np.float32)
        self._speakers: dict[str, int] = {}
        self._text_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, page_id: str) -> bool:
        return page_id in self._ids

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, about: the database, the vectors, and what SQLite keeps beside its pages."""
        database_bytes = self._scalar("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()", ())
        unmerged_bytes = min(_UNMERGED_FACTOR * self._text_bytes, _UNMERGED_BYTES_MAX)
        return database_bytes + self._vectors.size_bytes + _CONNECTION_BYTES + unmerged_bytes

    def close(self) -> None:
        self._database.close()

    def add(  # noqa: PLR0913 - a page's facts
        self,
        page_id: str,
        text: str,
        hint: str = "",
        *,
        modality: Modality = Modality.TEXT,
        page_type: PageType = PageType.TRANSCRIPT,
        role: MessageRole = MessageRole.USER,
        turn: int = 0,
        tool_call_id: str = "",
    ) -> None:
        """Index a page. KeyError when it is indexed already."""
        if page_id in self._ids:
            raise KeyError(page_id)
        self.replace(
            page_id,
            text,
            hint,
            modality=modality,
            page_type=page_type,
            role=role,
            turn=turn,
            tool_call_id=tool_call_id,
        )

    def replace(  # noqa: PLR0913 - a page's facts
        self,
        page_id: str,
        text: str,
        hint: str = "",
        *,
        modality: Modality = Modality.TEXT,
        page_type: PageType = PageType.TRANSCRIPT,
        role: MessageRole = MessageRole.USER,
        turn: int = 0,
        tool_call_id: str = "",
    ) -> None:
        """Index a page instead of what was indexed under its id, if anything was."""
        row = self._ids.get(page_id)
        if row is None:
            row = len(self._page_ids)
            self._page_ids.append(page_id)
        else:
            self.remove(page_id)
        self._insert(
            row,
            page_id,
            text,
            hint,
            modality=modality,
            page_type=page_type,
            role=role,
            turn=turn,
            tool_call_id=tool_call_id,
        )

    def remove(self, page_id: str) -> None:
        """KeyError when it is not indexed."""
        row = self._ids.pop(page_id)
        self._traits[row] = 0.0
        self._vectors.clear(row)
        body, hint = self._database.execute("SELECT body, hint FROM pages WHERE id = ?", (row,)).fetchone()
        self._database.execute(
            "INSERT INTO words (words, rowid, body, hint) VALUES ('delete', ?, ?, ?)",
            (row, indexable(body), indexable(hint)),
        )
        self._database.execute("DELETE FROM pages WHERE id = ?", (row,))

    def pages(self) -> IndexedPages:
        traits = self._traits[: len(self._page_ids)]
        rows = np.flatnonzero(traits[:, 0])
        size, by_model, by_tool, asking, wishing, speaker = traits[rows, 1:].T
        return IndexedPages(rows, size, by_model > 0.0, by_tool > 0.0, asking > 0.0, wishing > 0.0, speaker)

    def speakers_named(self, query: str) -> list[int]:
        """By number: those that the query names. Each is a speaker of some page, or was."""
        words = words_of_names(query[:_JUDGED_CHARS])
        runs = (
            " ".join(words[start : start + length])
            for length in range(1, SPEAKER_WORDS_MAX + 1)
            for start in range(len(words) + 1 - length)
        )
        return sorted({self._speakers[run] for run in runs if run in self._speakers})

    def page_id(self, row: int) -> str:
        return self._page_ids[row]

    def rows_saying(self, text: str) -> NDArray[np.int64]:
        """The pages that say this and nothing else."""
        body = storable(text)
        found = self._database.execute(_SAYING, {"digest": crc32(body.encode()), "text": body}).fetchall()
        return np.array([row for (row,) in found], np.int64)

    def recall_turns_since(self, turn: int, query: str) -> int:
        """How many turns from this one on ask for the past, but for those that say just this query."""
        return self._scalar(_RECALL_TURNS, (turn, storable(query)))

    def lexical_scores(self, query: str) -> Floats:
        """By row: BM25 of the query's words; 0 where a page has none of them."""
        scores = np.zeros(len(self._page_ids), np.float32)
        terms = self._known_terms(query)
        if terms:
            found = self._database.execute(
                _SCORE, {"hint_weight": _HINT_WEIGHT, "expression": _expression(terms)}
            ).fetchall()
            scores[[row for row, _ in found]] = [score for _, score in found]
        return scores

    def direction(self, query: str) -> Floats:
        """Where a query lies from the mean of all pages, for `similarity`."""
        return self._vectors.direction(self._embedder.embed([query[:EMBEDDED_CHARS_MAX]])[0])

    def direction_of(self, rows: NDArray[np.int64], weights: Floats) -> Floats:
        """Where some pages together lie from the mean of all, for `similarity`."""
        return self._vectors.direction_of(rows, weights)

    def similarity(self, direction: Floats) -> Floats:
        """By row: the cosine of a page's direction from the mean of all pages, -1 to 1; 0 without a model."""
        return self._vectors.similarity(direction, len(self._page_ids))

    def _insert(  # noqa: PLR0913 - a page's facts
        self,
        row: int,
        page_id: str,
        text: str,
        hint: str,
        *,
        modality: Modality,
        page_type: PageType,
        role: MessageRole,
        turn: int,
        tool_call_id: str,
    ) -> None:
        body, hint = storable(text), storable(hint)
        self._text_bytes += len(body) + len(hint)
        recalls = role is MessageRole.USER and recall_intent_of(body) is RecallIntent.RECALL
        self._database.execute(
            "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row,
                page_id,
                modality.value,
                page_type.value,
                turn,
                body,
                hint,
                crc32(body.encode()),
                recalls,
                tool_call_id,
            ),
        )
        self._database.execute(
            "INSERT INTO words (rowid, body, hint) VALUES (?, ?, ?)", (row, indexable(body), indexable(hint))
        )
        self._vectors.set(row, self._embedder.embed([(body or hint)[:EMBEDDED_CHARS_MAX]])[0])
        self._ids[page_id] = row
        if row >= len(self._traits):
            self._traits = np.pad(self._traits, ((0, len(self._traits)), (0, 0)))
        speaker = speaker_of(body)
        self._traits[row] = (
            1.0,
            len(body) / _CHARS_A_TOKEN,
            role is MessageRole.ASSISTANT,
            role is MessageRole.TOOL,
            body.rstrip().endswith(("?", "\uff1f")),
            role is MessageRole.USER and is_standing_wish(body[:_JUDGED_CHARS]),
            self._speakers.setdefault(speaker, len(self._speakers) + 1) if speaker else 0,
        )

    def rank(self, query: str, *, limit: int, where: SearchFilter = EVERYTHING) -> list[Ranked]:
        """The pages whose ids the query has, or the ids of the calls that they answer; then those with its words.

        Of pages with the same score, a claim, summary or procedure comes before what it was made of; then by page id.
        """
        if limit < 1:
            return []
        named = [page_id for page_id in self._named(query) if self._passes(page_id, where)][:limit]
        others = replace(where, exclude=frozenset((*where.exclude, *named))) if named else where
        return [*(Ranked(page_id, 1.0) for page_id in named), *self._by_words(query, limit - len(named), others)]

    def _named(self, query: str) -> Iterable[str]:
        words = (word.strip(_AROUND_AN_ID) for word in query[:QUERY_CHARS_MAX].split())
        asked = list(dict.fromkeys(words))
        answers = self._database.execute(_ANSWERING, (json.dumps(list(filter(None, map(storable, asked)))),)).fetchall()
        return dict.fromkeys([*(word for word in asked if word in self._ids), *(page_id for (page_id,) in answers)])

    def _passes(self, page_id: str, where: SearchFilter) -> bool:
        statement = "SELECT modality, page_type, turn FROM pages WHERE id = ?"
        modality, page_type, turn = self._database.execute(statement, (self._ids[page_id],)).fetchone()
        return (
            page_id not in where.exclude
            and where.modality in (None, modality)
            and (not where.page_types or page_type in where.page_types)
            and where.from_turn <= turn <= where.to_turn
        )

    def _by_words(self, query: str, limit: int, where: SearchFilter) -> list[Ranked]:
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
        roots = roots_of(query_terms(query))
        for page in self.rank(query, limit=limit, where=where):
            row = self._ids[page.page_id]
            body, hint = self._database.execute("SELECT body, hint FROM pages WHERE id = ?", (row,)).fetchone()
            found.append(Found(page.page_id, page.relevance, snippet(body, roots) or snippet(hint, roots) or hint))
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


def _phrase(term: str) -> str:
    """A term as FTS5 reads it: in quotes, where only a quote has a meaning, and terms have none."""
    prefix = "*" if len(term) == 1 and is_unspaced(term) else ""
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
