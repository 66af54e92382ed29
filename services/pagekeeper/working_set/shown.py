"""The session's facts that prompts need, updated from the changed pages alone.

A long session has thousands of pages and a turn changes a few. So what is said of a page is written once. Which pages
are offered, and in which order, is the core's `Offering`.

Invariant: everything here is what would be derived from the session anew. The facts hold at one revision, and `keep_up`
moves them to the session's; no caller awaits between two calls of `keep_up`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pagekeeper.core.offering import Offering, SaidPlaces
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident
from pagekeeper.runtime.views import PageTotals, page_message, resident_message
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb


@dataclass(frozen=True, slots=True)
class _Entry:
    """A written entry, and what of it passes with the turns."""

    resident: Resident
    protected: bool
    message: working_pb.ResidentEntry


class Shown:
    def __init__(self) -> None:
        self._offering = Offering()
        self._said = SaidPlaces()
        self._entries: dict[str, _Entry] = {}
        self._pages: dict[str, page_pb2.Page] = {}

    def keep_up(self, session: Session) -> None:
        """Move to the session's revision."""
        changed = self._offering.keep_up(session)
        self._said.keep_up(session, changed)
        if changed is None:
            self._entries.clear()
            self._pages.clear()
        else:
            for page_id in changed:
                self._entries.pop(page_id, None)
                self._pages.pop(page_id, None)

    @property
    def totals(self) -> PageTotals:
        offering = self._offering
        return PageTotals(offering.total_pages, offering.dirty_pages, offering.total_tokens)

    @property
    def offered_total(self) -> int:
        return self._offering.offered_total

    def offered(self, session: Session, limit: int) -> Iterator[page_pb2.Page]:
        """Pages that are not in the context, the most useful first: those that were faulted in stay offered."""
        for page_id in self._offering.offered(limit):
            message = self._pages.get(page_id)
            if message is None:
                message = self._pages[page_id] = page_message(session, session.pages[page_id])
            yield message

    def residents(self, session: Session) -> Iterator[working_pb.ResidentEntry]:
        """Entries in the order in which their pages were first said, without bytes."""
        for resident in self._said.in_order(session):
            page = session.pages[resident.page_id]
            protected = session.is_protected(page)
            entry = self._entries.get(resident.page_id)
            if entry is None or entry.resident is not resident or entry.protected is not protected:
                message = working_pb.ResidentEntry(
                    resident=resident_message(session, resident), page=page_message(session, page)
                )
                entry = self._entries[resident.page_id] = _Entry(resident, protected, message)
            yield entry.message
