"""The code blocks of a page of documentation, run one after another as a reader would, in one namespace.

A Python block may await at its top level. What it prints must be what the `text` block right behind it shows, where
there is one; a line `…` there stands for lines that nobody needs to see.
"""

import ast
import asyncio
import inspect
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is where the code begins in its page, from 1; `shown` what the page says that it prints."""

    page: Path
    line: int
    code: str
    shown: str | None

    def run(self, namespace: dict[str, Any], runner: asyncio.Runner) -> str:
        """Execute, and answer what was printed. Errors point to the page's own lines."""
        padded = "\n" * (self.line - 1) + self.code
        compiled = compile(padded, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with redirect_stdout(io.StringIO()) as printed:
            awaited = eval(compiled, namespace)  # noqa: S307 - the page is ours, and running it is the test
            if compiled.co_flags & inspect.CO_COROUTINE:
                runner.run(awaited)
        return printed.getvalue()

    def shows(self, printed: str) -> bool:
        """Whether the page is right about what is printed."""
        if self.shown is None:
            return True
        pattern = r"(?:.*\n)*?".join(re.escape(part) for part in re.split(r"^…\n", self.shown, flags=re.MULTILINE))
        return re.fullmatch(pattern, printed) is not None


def python_blocks(page: Path) -> Iterator[Block]:
    """The page's Python blocks, in order."""
    text = page.read_text(encoding="utf-8")
    fenced = list(FENCED.finditer(text))
    for block, following in zip(fenced, [*fenced[1:], None], strict=True):
        if block["language"] == "python":
            behind = (
                following is not None
                and following["language"] == "text"
                and not text[block.end() : following.start()].strip()
            )
            shown = following["body"] if following is not None and behind else None
            yield Block(page, text.count("\n", 0, block.start("body")) + 1, block["body"], shown)
