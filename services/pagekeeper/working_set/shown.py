"""What prompts need of one session, kept up from the pages that changed.

A long session has thousands of pages and a turn changes a few. So what is said of a page is written once, and the pages
that are not in the context stand in the order in which they are offered; each change moves one.

Invariant: everything here is what would be derived from the session anew. It holds at one revision, and `keep_up` moves
it to the session's; between two calls of it nobody awaits.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final
from weakref import ReferenceType, ref

from pagekeeper.core.pages import PageState, PageType
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident
from pagekeeper.runtime.views import PageTotals, page_message, resident_message
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb

VALUABLE_TYPES: Final = frozenset({PageType.CLAIM, PageType.SUMMARY, PageType.PROCEDURE})

Usefulness = tuple[bool, float, int, str]


@dataclass(frozen=True, slots=True)
class _Account:
    """What one mapped page adds to the totals, and where it is offered; None when it is in the context."""

    full_tokens: int
    dirty: bool
    offered: Usefulness | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A written entry, and what of it passes with the turns."""

    resident: Resident
    protected: bool
    message: working_pb.ResidentEntry


class Shown:
    def __init__(self) -> None:
        # A session that was read anew from a snapshot is another object; keeping the old one alive would serve nobody.
        self._session: ReferenceType[Session] | None = None
        self._revision = 0
        self._forget()

    def _forget(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._offered: list[Usefulness] = []
        self._entries: dict[str, _Entry] = {}
        self._pages: dict[str, page_pb2.Page] = {}
        self._total_tokens = self._dirty_pages = 0

    def keep_up(self, session: Session) -> None:
        """Move to the session's revision."""
        same = self._session is not None and self._session() is session
        changed = session.changes.since(self._revision) if same else None
        if changed is None:
            self._session = ref(session)
            self._forget()
            for page in session.mapped_pages():
                self._enter(page, _account(session, page))
            self._offered = sorted(a.offered for a in self._accounts.values() if a.offered is not None)
        else:
            for page_id in changed:
                self._change(session, page_id)
        self._revision = session.revision

    @property
    def totals(self) -> PageTotals:
        return PageTotals(len(self._accounts), self._dirty_pages, self._total_tokens)

    @property
    def offered_total(self) -> int:
        return len(self._offered)

    def offered(self, session: Session, limit: int) -> Iterator[page_pb2.Page]:
        """Pages that are not in the context, the most useful first: those that were faulted in stay offered."""
        for *_, page_id in islice(self._offered, limit):
            message = self._pages.get(page_id)
            if message is None:
                message = self._pages[page_id] = page_message(session, session.pages[page_id])
            yield message

    def residents(self, session: Session) -> Iterator[working_pb.ResidentEntry]:
        """Entries in admission order, without bytes."""
        for resident in session.working_set:
            page = session.pages[resident.page_id]
            protected = session.is_protected(page)
            entry = self._entries.get(resident.page_id)
            if entry is None or entry.resident is not resident or entry.protected is not protected:
                message = working_pb.ResidentEntry(
                    resident=resident_message(session, resident), page=page_message(session, page)
                )
                entry = self._entries[resident.page_id] = _Entry(resident, protected, message)
            yield entry.message

    def _change(self, session: Session, page_id: str) -> None:
        self._entries.pop(page_id, None)
        self._pages.pop(page_id, None)
        before = self._accounts.pop(page_id, None)
        if before is not None:
            self._total_tokens -= before.full_tokens
            self._dirty_pages -= before.dirty
            if before.offered is not None:
                del self._offered[bisect_left(self._offered, before.offered)]
        page = session.page(page_id)
        if page is not None:
            account = _account(session, page)
            self._enter(page, account)
            if account.offered is not None:
                insort(self._offered, account.offered)

    def _enter(self, page: PageState, account: _Account) -> None:
        self._accounts[page.page_id] = account
        self._total_tokens += account.full_tokens
        self._dirty_pages += account.dirty


def _account(session: Session, page: PageState) -> _Account:
    resident = session.working_set.get(page.page_id)
    offered = None if resident is not None and not resident.faulted else _least_useful_last(page)
    return _Account(page.current.full.size_tokens, page.dirty, offered)


def _least_useful_last(page: PageState) -> Usefulness:
    """Claims, summaries and procedures first, then by importance, then what is newest.

    Nothing that a fault changes: the list stands before the context, and a provider caches what does not change.
    """
    valuable = page.page_type in VALUABLE_TYPES
    return (not valuable, -page.importance, -page.current.revision, page.page_id)
