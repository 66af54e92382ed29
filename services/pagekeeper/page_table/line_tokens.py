"""Tokens of the lines of one request's pages: of each line that a decision asks for, counted once.

The line of a page shows an id and a trust that the session decides, so a decision asks for counts. What takes longer
than a hop is not counted in the decision: the decision ends with Unready, the lines that it lacked are counted in the
pool, and it is made again. The session may move on meanwhile, which gives the page another id: it is counted anew then.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.sessions import Committed
from pagekeeper.runtime.tokens import Tokenizer

ATTEMPTS_MAX: Final = 16
"""How often lines are counted anew because others appended meanwhile. Of N writers one is done in each round."""

Line = tuple[LineFacts, int, bytes, str]
"""Facts of a page, a level, the content at that level, and the type of the preview in the content."""


class Unready(Exception):
    """Raised by a decision that lacks counts; `compute` has them counted."""

    def __init__(self, compute: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.compute = compute


async def decided(commit: Callable[[], Awaitable[Committed]]) -> Committed:
    """Commit a decision that may be Unready. Raises what `commit` raises, and TooManyRequests."""
    for _ in range(ATTEMPTS_MAX):
        try:
            return await commit()
        except Unready as unready:
            await unready.compute()
    raise TooManyRequests("others append to the session faster than the lines of these pages are counted")


class LineTokens:
    """`content_bytes` is the size of all contents of the request."""

    def __init__(self, pool: Pool, tenant: str, content_bytes: int) -> None:
        self._pool = pool
        self._tenant = tenant
        self._here = content_bytes <= HERE_BYTES_MAX
        self._counted: dict[tuple[str, Line], int] = {}
        self._lacking: dict[Line, None] = {}

    def count(self, tokenizer: Tokenizer, line: Line) -> int:
        """Tokens of the line; 0 while it is not counted, which `complete` then says."""
        known = self._counted.get((tokenizer.name, line))
        if known is not None:
            return known
        if not self._here:
            self._lacking[line] = None
            return 0
        counted = self._counted[tokenizer.name, line] = count_line(tokenizer, *line)
        return counted

    def complete(self, tokenizer: Tokenizer) -> None:
        """Raises Unready when `count` lacked a line."""
        if not self._lacking:
            return
        lines = list(self._lacking)
        self._lacking.clear()

        async def compute() -> None:
            counted = await self._pool.run(self._tenant, count_lines, tokenizer, lines)
            self._counted.update(zip([(tokenizer.name, line) for line in lines], counted, strict=True))

        raise Unready(compute)


def count_line(tokenizer: Tokenizer, facts: LineFacts, level: int, content: bytes, preview_mime_type: str) -> int:
    """Tokens of one line."""
    return tokenizer.count(page_line(facts, level, content, preview_mime_type))


def count_lines(tokenizer: Tokenizer, lines: list[Line]) -> list[int]:
    """Tokens of several lines."""
    return [count_line(tokenizer, *line) for line in lines]
