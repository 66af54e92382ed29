"""The code blocks of a page of documentation, run one after another as a reader would, in one namespace.

A Python block may await at its top level. What it prints must be what the `text` block right behind it shows, where
there is one; a line `…` there stands for lines that nobody needs to see.

python guide_blocks.py PAGE     run the blocks that need nothing but what is installed; one JSON object a block

The program needs the standard library alone, so that it runs in an environment that holds what a reader has installed.
"""

import ast
import asyncio
import inspect
import io
import json
import re
import sys
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


def run_what_can_run(page: Path) -> Iterator[dict[str, Any]]:
    """Run the blocks of a page, but for those that import what is not installed and those that build on them."""
    namespace: dict[str, Any] = {"__name__": "guide"}
    absent: set[str] = set()
    with asyncio.Runner() as runner:
        for block in python_blocks(page):
            bound, used = names(block.code)
            missing = sorted((used - bound) & absent)
            printed = ""
            if not missing:
                try:
                    printed = block.run(namespace, runner)
                except ModuleNotFoundError as error:
                    missing = [str(error.name)]
            absent = (absent | bound) - introduce(block.code, namespace) if missing else absent - bound
            yield {"line": block.line, "missing": missing, "right": not missing and block.shows(printed)}


def introduce(code: str, namespace: dict[str, Any]) -> set[str]:
    """Take a block's imports and definitions alone; answer the names that there are now."""
    introduced: set[str] = set()
    for statement in parsed(code).body:
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            alone = ast.Module([statement], [])
            try:
                exec(compile(alone, "block", "exec"), namespace)  # noqa: S102 - the page is ours
            except (ModuleNotFoundError, NameError):
                continue
            introduced |= names(ast.unparse(alone))[0]
    return introduced


def parsed(code: str) -> ast.Module:
    """A block, which may await at its top level."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree = compile(code, "block", "exec", flags=flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def names(code: str) -> tuple[set[str], set[str]]:
    """The names that a block binds at its top level, and those that it uses anywhere."""
    tree = parsed(code)
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bound = {node.name for node in tree.body if isinstance(node, definitions)}
    bound |= {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    inside = [node for top in tree.body if not isinstance(top, definitions) for node in ast.walk(top)]
    bound |= {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return bound, used


if __name__ == "__main__":
    for outcome in run_what_can_run(Path(sys.argv[1])):
        print(json.dumps(outcome), flush=True)  # noqa: T201 - what the program is for
