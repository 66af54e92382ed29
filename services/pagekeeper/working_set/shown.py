"""The session's facts that prompts need, updated from the changed pages alone.

A long session has thousands of pages and a turn changes a few. So what is said of a page is written once, and a caller
that knows an earlier revision is told what has changed since. Which pages are offered, and in which order, is the
core's `Offering`.

Invariant: everything here is what would be derived from the session anew. The facts hold at one revision, and `keep_up`
moves them to the session's; no caller awaits between two calls of `keep_up`.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pagekeeper.core import events as ev
from pagekeeper.core.offering import LastMessage, Offering, SaidPlaces
from pagekeeper.core.session import Session
from pagekeeper.runtime.views import PageTotals, page_facts, resident_message
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb

CHANGES_MAX: Final = 4_096
"""Pages whose last change is remembered; a caller that knows nothing newer than the others is told everything."""
PAGE_BYTES: Final = 512
"""What is derived of a page: its account, its place and the revision of its last change (about 300 bytes)."""
MESSAGE_BYTES: Final = 2_048
"""A page as a message that is written: about 600 bytes, more with labels or a description of a medium."""


class ChangesSince(NamedTuple):
    """Residents that entered or changed after a revision, and pages that are resident no longer."""

    entries: list[working_pb.ResidentEntry]
    left_page_ids: list[str]


class Shown:
    def __init__(self) -> None:
        self._offering = Offering()
        self._said = SaidPlaces()
        self._config: ev.SessionConfig | None = None
        self._turn = 0
        self._entries: dict[str, working_pb.ResidentEntry] = {}
        self._pages: dict[str, page_pb2.Page] = {}
        self._protected: set[str] = set()
        """Residents that are protected: a turn that begins may end that, and changes nothing else of a page."""
        self._changed_at: dict[str, int] = {}
        """Pages by the revision of their last change, the last one at the end."""
        self._changes_known_after = 0

    @property
    def size_bytes(self) -> int:
        """Memory that the facts take, estimated from the number of pages."""
        written = len(self._entries) + len(self._pages)
        return PAGE_BYTES * (1 + self._offering.total_pages) + MESSAGE_BYTES * written

    def keep_up(self, session: Session) -> None:
        """Move to the session's revision."""
        changed = self._offering.keep_up(session)
        self._said.keep_up(session, changed)
        if changed is None or session.config is not self._config:
            self._config = session.config
            self._start_anew(session)
        else:
            for page_id in changed:
                self._pages.pop(page_id, None)
            self._note(session, changed)
            if session.turn != self._turn:
                self._note(session, [page_id for page_id in self._protected if not _is_protected(session, page_id)])
        self._turn = session.turn

    def _start_anew(self, session: Session) -> None:
        self._entries.clear()
        self._pages.clear()
        self._changed_at.clear()
        self._changes_known_after = session.revision
        self._protected = {one.page_id for one in session.working_set if _is_protected(session, one.page_id)}

    def _note(self, session: Session, page_ids: Iterable[str]) -> None:
        for page_id in page_ids:
            self._entries.pop(page_id, None)
            self._changed_at.pop(page_id, None)
            self._changed_at[page_id] = session.revision
            if _is_protected(session, page_id):
                self._protected.add(page_id)
            else:
                self._protected.discard(page_id)
        while len(self._changed_at) > CHANGES_MAX:
            self._changes_known_after = self._changed_at.pop(next(iter(self._changed_at)))

    @property
    def totals(self) -> PageTotals:
        offering = self._offering
        return PageTotals(offering.total_pages, offering.dirty_pages, offering.total_tokens)

    @property
    def last_message(self) -> LastMessage | None:
        return self._offering.last_message

    @property
    def offered_total(self) -> int:
        return self._offering.offered_total

    def offered(self, session: Session, limit: int) -> Iterator[page_pb2.Page]:
        """Pages that are not in the context, the most useful first: those that were faulted in stay offered."""
        for page_id in self._offering.offered(limit):
            message = self._pages.get(page_id)
            if message is None:
                message = self._pages[page_id] = page_facts(session, session.pages[page_id])
                message.ClearField("media")  # which a manifest does not show
            yield message

    def residents(self, session: Session) -> Iterator[working_pb.ResidentEntry]:
        """Entries in the order in which their pages were first said, without bytes."""
        return (self._entry(session, resident.page_id) for resident in self._said.in_order(session))

    def residents_since(self, session: Session, revision: int) -> ChangesSince | None:
        """The changes after `revision`, without bytes; None when it may be any page."""
        if revision < self._changes_known_after:
            return None
        changes = ChangesSince([], [])
        for page_id, changed_at in reversed(self._changed_at.items()):
            if changed_at <= revision:
                break
            if page_id in session.working_set:
                changes.entries.append(self._entry(session, page_id))
            else:
                changes.left_page_ids.append(page_id)
        return changes

    def _entry(self, session: Session, page_id: str) -> working_pb.ResidentEntry:
        entry = self._entries.get(page_id)
        if entry is None:
            resident = session.working_set.get(page_id)
            assert resident is not None, "asked for residents alone"
            position, _, said_again_revision, _ = self._said[page_id]
            entry = self._entries[page_id] = working_pb.ResidentEntry(
                resident=resident_message(session, resident),
                page=page_facts(session, session.pages[page_id]),
                place=working_pb.SaidPlace(position=position, said_again_revision=said_again_revision),
            )
        return entry


def _is_protected(session: Session, page_id: str) -> bool:
    return page_id in session.working_set and session.is_protected(session.pages.at_hand[page_id])
