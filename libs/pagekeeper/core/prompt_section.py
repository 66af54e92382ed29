"""Pages of one section of a prompt, in their order, and the sums that a budget asks for.

A section may have thousands of pages, of which a turn changes a few. So whoever keeps a section from one prompt to the
next inserts and removes single pages, and a prompt that has room for all of them looks at none.

Invariant: `lines`, `texts`, `tokens` and `floor_tokens` are those of `pages`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass

from pagekeeper.core.manifest import ManifestLine
from pagekeeper.core.offering import Place
from pagekeeper.core.packing import ContextPage, PackedContext, PackedLine, lowest_tokens, pack
from pagekeeper.core.pages import Modality


@dataclass(frozen=True, slots=True)
class PromptPage:
    """A page for a prompt. `entry` is its line among the available pages, for when it finds no room."""

    page: ContextPage
    modality: Modality
    importance: float
    entry: ManifestLine


class PromptSection:
    """See the module. `tokens` is the sum over all lines; mandatory pages take `floor_tokens` at least."""

    def __init__(self, pages: Iterable[PromptPage] = ()) -> None:
        self.pages = list(pages)
        self.lines: list[PackedLine] = [page.page.line for page in self.pages]
        self.texts = [line.text for line in self.lines]
        self.tokens = sum([line.tokens for line in self.lines])
        self.floor_tokens = sum([_floor_tokens(page) for page in self.pages if page.page.mandatory])

    def __iter__(self) -> Iterator[PromptPage]:
        return iter(self.pages)

    def __len__(self) -> int:
        return len(self.pages)

    def copy(self) -> "PromptSection":
        """Another section of the same pages, which changes apart from this one."""
        section = copy(self)
        section.pages, section.lines, section.texts = self.pages.copy(), self.lines.copy(), self.texts.copy()
        return section

    def insert(self, index: int, page: PromptPage) -> None:
        """Put the page before the one that stands at `index`."""
        line = page.page.line
        self.pages.insert(index, page)
        self.lines.insert(index, line)
        self.texts.insert(index, line.text)
        self.tokens += line.tokens
        self.floor_tokens += _floor_tokens(page)

    def remove(self, index: int) -> None:
        """Take the page at `index` out."""
        page = self.pages.pop(index)
        del self.lines[index], self.texts[index]
        self.tokens -= page.page.line.tokens
        self.floor_tokens -= _floor_tokens(page)

    def packed(self, budget_tokens: int, eviction_order: Iterable[str] = ()) -> PackedContext:
        """The lines that a budget has room for: see `pack`. Raises BudgetTooSmall."""
        if self.tokens <= budget_tokens:
            return PackedContext(self.tokens, tuple(self.lines), tuple(self.texts), (), ())
        return pack(
            [page.page for page in self.pages], budget_tokens=budget_tokens, eviction_order=tuple(eviction_order)
        )


class PlacedSection:
    """A section whose pages stand in the order of their places."""

    def __init__(self, section: PromptSection | None = None, places: Iterable[Place] = ()) -> None:
        self.section = section or PromptSection()
        self._places = list(places)

    def copy(self) -> "PlacedSection":
        """Another section of the same pages, which changes apart from this one."""
        return PlacedSection(self.section.copy(), self._places)

    def index(self, place: Place) -> int:
        """How many pages stand before that place."""
        return bisect_left(self._places, place)

    def enter(self, place: Place, page: PromptPage) -> None:
        """Put the page in its place, which is free."""
        index = self.index(place)
        self._places.insert(index, place)
        self.section.insert(index, page)

    def leave(self, place: Place) -> None:
        """Take the page out that stands there."""
        index = self.index(place)
        del self._places[index]
        self.section.remove(index)


def _floor_tokens(page: PromptPage) -> int:
    return lowest_tokens(page.page) if page.page.mandatory else 0
