"""The pages of a session, by id.

Pages stand in the order in which they were first mapped and never leave it, dropped ones neither. A page is a value:
whoever reads has it as it was then, and `put` alone changes which value a session has, so no change can get lost in a
copy. Which pages are at hand and which are packed makes no difference to anything but memory and time.

Invariant, once a transaction's pages are settled: what is resident, or has bytes in the log alone, is at hand; all else
is packed. The levels of what is resident are packed too, unless they have such bytes.
"""

from collections.abc import Container, Iterable, Iterator, Mapping

from pagekeeper.core.ids import ordinal_page_id
from pagekeeper.core.packed_pages import PackedPages, is_mapped
from pagekeeper.core.pages import PageState


class SessionPages(Mapping[str, PageState]):
    def __init__(self) -> None:
        self._packed: dict[str, bytes | None] = {}
        self._packed_pages = PackedPages()
        self.at_hand: dict[str, PageState] = {}
        """What is resident is among these: eviction ranks them all, each time. To read, never to change."""
        self._free_ordinal = 1
        """What `free_ordinal` answered last: pages never leave, so no lower ordinal will ever be free again."""

    def __getitem__(self, page_id: str) -> PageState:
        page = self.at_hand.get(page_id)
        if page is not None:
            return page
        packed = self._packed[page_id]
        assert packed is not None, "a page is at hand or packed"
        return self._packed_pages.unpack(page_id, packed)

    def get(self, page_id: str, default: None = None) -> PageState | None:  # type: ignore[override] # no other default
        """Every append asks for pages that are not there yet; a mapping's own would raise a KeyError and catch it."""
        return self[page_id] if page_id in self._packed else default

    def __contains__(self, page_id: object) -> bool:
        return page_id in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def newest_first(self) -> Iterator[str]:
        """Ids, those of the pages that were mapped last first."""
        return reversed(self._packed)

    @property
    def mapped_total(self) -> int:
        at_hand = sum(page.mapped for page in self.at_hand.values())
        return at_hand + sum(is_mapped(packed) for packed in self._packed.values() if packed is not None)

    def mapped(self) -> Iterator[PageState]:
        for page_id, packed in self._packed.items():
            if packed is None:
                page = self.at_hand[page_id]
                if page.mapped:
                    yield page
            elif is_mapped(packed):
                yield self._packed_pages.unpack(page_id, packed)

    def free_ordinal(self) -> int:
        """The ordinal of the next page to come: the least above the number of pages whose id no page has."""
        ordinal = max(self._free_ordinal, len(self._packed) + 1)
        while ordinal_page_id(ordinal) in self._packed:
            ordinal += 1
        self._free_ordinal = ordinal
        return ordinal

    def first_mapped_at(self, revision: int, count: int, named: Container[str] = ()) -> list[str]:
        """Ids of the `count` pages that the transaction at `revision` made, those aside that it named; in its order.

        A fork may have inherited others whose revision, in its parent's log, is the same number: they come before.
        """
        found: list[str] = []
        for page_id in reversed(self._packed):
            if len(found) == count:
                break
            if page_id not in named and self[page_id].versions[0].revision == revision:
                found.append(page_id)
        return found[::-1]

    def positions(self, page_ids: Iterable[str]) -> dict[str, int]:
        """How many pages stand before each of these pages.

        The newest page is looked at first, so the cost is the number of pages that came after the oldest one asked for.
        """
        wanted = {page_id for page_id in page_ids if page_id in self._packed}
        found: dict[str, int] = {}
        position = len(self._packed)
        for page_id in reversed(self._packed):
            if len(found) == len(wanted):
                break
            position -= 1
            if page_id in wanted:
                found[page_id] = position
        return found

    def dirty(self) -> Iterator[PageState]:
        """Pages with bytes in the log alone, dropped ones too."""
        at_hand = (self.at_hand[page_id] for page_id, packed in self._packed.items() if packed is None)
        return (page for page in at_hand if page.dirty)

    def put(self, page: PageState) -> None:
        """Have this page, in its place when there was one of its id."""
        self.at_hand[page.page_id] = page
        self._packed[page.page_id] = None

    def settle(self, page_ids: Iterable[str], resident: Container[str]) -> None:
        """Of these pages, have at hand what is resident or dirty, and pack the others."""
        for page_id in dict.fromkeys(page_ids):
            page = self.at_hand.get(page_id)
            if page is None:
                if page_id in resident:
                    self.put(self._packed_pages.with_packed_levels(self[page_id]))
            elif page_id in resident:
                self.at_hand[page_id] = self._packed_pages.with_packed_levels(page)
            else:
                packed = self._packed_pages.pack(page)
                if packed is not None:
                    self._packed[page_id] = packed
                    del self.at_hand[page_id]
