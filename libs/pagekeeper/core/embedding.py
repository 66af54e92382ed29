"""Semantic similarity: the port that an embedding model stands behind, and the vectors of a session's pages.

A vector is kept in one byte a dimension and compared with the session's mean taken away: all pages of a conversation
are about its subject, and what tells them apart is the rest. The mean is kept as a sum of integers, so that it is what
the pages say whatever the order in which they came and went. Nothing here knows what a page is.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_SCALE: Final = 127.0
_BLOCK_ROWS: Final = 512
"""Small enough that no library starts threads for it, which costs more than the work."""
_ROWS_AT_FIRST: Final = 64
_LENGTH_MIN: Final = 1e-6


class Embedder(Protocol):
    """Deterministic: the same text has the same vector, on every machine that shares an index."""

    @property
    def dimensions(self) -> int:
        """0 when nothing is embedded."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """One row of `dimensions` for each text, of length 1, or 0 for a text that says nothing."""
        ...


class WordsAlone:
    """No model: texts are compared by their words and by nothing else."""

    @property
    def dimensions(self) -> int:
        return 0

    def embed(self, texts: Sequence[str]) -> Floats:
        return np.zeros((len(texts), 0), np.float32)


class Vectors:
    """Vectors by row. A row that was not set, or was cleared, is like no query."""

    def __init__(self, dimensions: int) -> None:
        self._rows = np.zeros((_ROWS_AT_FIRST, dimensions), np.int8)
        self._squares = np.zeros(_ROWS_AT_FIRST, np.float32)
        self._sum = np.zeros(dimensions, np.int64)
        self._count = 0
        self._lengths: Floats | None = None

    @property
    def size_bytes(self) -> int:
        return self._rows.nbytes + self._squares.nbytes

    def set(self, row: int, vector: Floats) -> None:
        """KeyError when the row is set already."""
        self._reserve(row + 1)
        if self._squares[row]:
            raise KeyError(row)
        self._rows[row] = np.rint(vector * _SCALE)
        stored = self._rows[row].astype(np.float32)
        self._squares[row] = max(float(stored @ stored), _LENGTH_MIN)
        self._sum += self._rows[row]
        self._count += 1
        self._lengths = None

    def clear(self, row: int) -> None:
        """KeyError when the row is not set."""
        if row >= len(self._squares) or not self._squares[row]:
            raise KeyError(row)
        self._sum -= self._rows[row]
        self._rows[row] = 0
        self._squares[row] = 0.0
        self._count -= 1
        self._lengths = None

    def direction(self, vector: Floats) -> Floats:
        """Where `vector` lies from the mean: of length 1."""
        return _normalised(vector * np.float32(_SCALE) - self._mean())

    def direction_of(self, rows: NDArray[np.int64], weights: Floats) -> Floats:
        """Where these rows lie from the mean, taken together."""
        away = self._rows[rows].astype(np.float32) - self._mean()
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), _LENGTH_MIN)
        return _normalised(weights @ away)

    def similarity(self, direction: Floats, rows: int) -> Floats:
        """The cosine of each of the first `rows`, taken from the mean, -1 to 1; 0 where no row is set."""
        cosines = np.zeros(rows, np.float32)
        if not self._count or not self._rows.shape[1]:
            return cosines
        if self._lengths is None:
            self._lengths = self._distances()
        known = min(rows, len(self._rows))
        away = self._along(direction, known) - float(self._mean() @ direction)
        cosines[:known] = np.where(self._squares[:known] > 0.0, away / self._lengths[:known], 0.0)
        return cosines

    def _distances(self) -> Floats:
        """Of every row from the mean."""
        mean = self._mean()
        squared = self._squares - 2.0 * self._along(mean, len(self._rows)) + float(mean @ mean)
        return np.sqrt(np.maximum(squared, _LENGTH_MIN)).astype(np.float32)

    def _along(self, direction: Floats, rows: int) -> Floats:
        along = np.empty(rows, np.float32)
        for start in range(0, rows, _BLOCK_ROWS):
            end = min(start + _BLOCK_ROWS, rows)
            along[start:end] = self._rows[start:end].astype(np.float32) @ direction
        return along

    def _mean(self) -> Floats:
        return (self._sum / max(self._count, 1)).astype(np.float32)

    def _reserve(self, rows: int) -> None:
        have = len(self._rows)
        if rows > have:
            more = max(rows, 2 * have) - have
            self._rows = np.pad(self._rows, ((0, more), (0, 0)))
            self._squares = np.pad(self._squares, (0, more))


def _normalised(vector: Floats) -> Floats:
    return (vector / max(float(np.linalg.norm(vector)), _LENGTH_MIN)).astype(np.float32)
