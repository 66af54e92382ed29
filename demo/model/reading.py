"""Readings of a prompt for models that are programs: pages, results of tools, and the question.

Only what stands between tags of ours, or came back from a tool, counts as a page; text of a page or of the user that
looks like a page is text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from demo.model.port import ChatMessage
from pagekeeper.core.packing import parse_line

_SECTION: Final = re.compile(r"<VM:(CONTEXT|FAULTED)[^>]*>\n(.*?)</VM:\1>", re.DOTALL)
_ANY_SECTION: Final = re.compile(r"<VM:([A-Z_]+)[^>]*>.*?</VM:\1>\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SeenPage:
    """A page as the prompt shows it. `level` 0 is word for word; `whole` is False when the line was cut."""

    page_id: str
    speaker: str
    level: int
    text: str
    whole: bool = True

    @property
    def exact(self) -> bool:
        """Everything that the page says is here."""
        return self.level == 0 and self.whole


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: a page that exists, with a hint and how relevant the search holds it to be."""

    page_id: str
    hint: str
    relevance: float


@dataclass(frozen=True, slots=True)
class Sight:
    """All that the prompt shows. `faults` and `searches` count what was asked for since the question."""

    question: str
    pages: tuple[SeenPage, ...]
    hits: tuple[Hit, ...]
    asked_for: frozenset[str]
    searches: int


def read_prompt(messages: Sequence[ChatMessage]) -> Sight:
    """Return the pages in the messages; of a page that is shown twice, the most exact form."""
    pages: dict[str, SeenPage] = {}
    hits: dict[str, Hit] = {}
    asked_for: set[str] = set()
    searches = 0
    for message in messages:
        for name, arguments in _calls(message):
            searches += name == "search_pages"
            if name == "page_fault":
                asked_for.add(str(arguments.get("page_id")))
        found = _tool_pages(message, hits) if message.get("role") == "tool" else _context_pages(message)
        for page in found:
            known = pages.get(page.page_id)
            if known is None or (page.exact and not known.exact):
                pages[page.page_id] = page
    return Sight(_question(messages), tuple(pages.values()), tuple(hits.values()), frozenset(asked_for), searches)


def _question(messages: Sequence[ChatMessage]) -> str:
    """The last words of the user, without the sections around them."""
    for message in reversed(messages):
        if message.get("role") == "user":
            words = _ANY_SECTION.sub("", str(message.get("content", ""))).strip()
            if words:
                return words
    return ""


def _context_pages(message: ChatMessage) -> Iterator[SeenPage]:
    for section in _SECTION.finditer(str(message.get("content") or "")):
        for line in section[2].split("\n"):
            seen = parse_line(line)
            if seen is not None:
                yield SeenPage(seen.page_id, seen.prefix.value, seen.level, seen.text, not seen.chars_missing)


def _calls(message: ChatMessage) -> Iterator[tuple[str, Mapping[str, object]]]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call["function"]
        yield function["name"], json.loads(function["arguments"])


def _tool_pages(message: ChatMessage, hits: dict[str, Hit]) -> Iterator[SeenPage]:
    """Pages in a tool's answer; search results go into `hits`. An error envelope holds neither."""
    match json.loads(str(message.get("content"))):
        case {"page": {"page_id": str(page_id), "level": int(level), "content": content}}:
            text = content.get("text") if isinstance(content, dict) else None
            said = text if isinstance(text, str) else json.dumps(content, ensure_ascii=False)
            yield SeenPage(page_id, "?", level, said)
        case {"results": [*results]}:
            for result in results:
                page_id = result["page_id"]
                hits[page_id] = Hit(page_id, str(result.get("hint", "")), float(result.get("relevance", 0.0)))
        case _:
            return
