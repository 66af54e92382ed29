"""A session's part of a prompt beside residents: the user's words, and the pages that the manifest may offer.

`Offering` is kept up from the pages that changed: a long session has thousands of pages, and a turn changes a few.

Invariant: everything here is what would be derived from the session anew. It holds at one revision, and `keep_up` moves
it to the session's.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pagekeeper.core.following import Following
from pagekeeper.core.pages import MessageRole, PageState, PageType
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident

VALUABLE_TYPES: Final = frozenset({PageType.CLAIM, PageType.SUMMARY, PageType.PROCEDURE})

Usefulness = tuple[bool, float, int, str]


@dataclass(frozen=True, slots=True)
class _Account:
    """One mapped page's part of the totals, and its place in the manifest; None for a page in the context."""

    full_tokens: int
    dirty: bool
    offered: Usefulness | None


class Offering:
    """The pages of a session that are not in its context, in the order in which a prompt offers them; and totals."""

    def __init__(self) -> None:
        self._following = Following()
        self._accounts: dict[str, _Account] = {}
        self._offered: list[Usefulness] = []
        self.total_tokens = self.dirty_pages = 0

    @property
    def total_pages(self) -> int:
        return len(self._accounts)

    @property
    def offered_total(self) -> int:
        return len(self._offered)

    def keep_up(self, session: Session) -> list[str] | None:
        """Move to the session's revision. The answer is which pages may have changed, None for any of them."""
        changed = self._following.catch_up(session)
        if changed is None:
            self._accounts, self._offered = {}, []
            self.total_tokens = self.dirty_pages = 0
            for page in session.mapped_pages():
                self._enter(page, _account(session, page))
            self._offered = sorted(a.offered for a in self._accounts.values() if a.offered is not None)
        else:
            for page_id in changed:
                self._change(session, page_id)
        return changed

    def offered(self, limit: int) -> Iterator[str]:
        """Pages that are not in the context, the most useful first: those that were faulted in stay offered."""
        return (page_id for *_, page_id in islice(self._offered, limit))

    def _change(self, session: Session, page_id: str) -> None:
        before = self._accounts.pop(page_id, None)
        if before is not None:
            self.total_tokens -= before.full_tokens
            self.dirty_pages -= before.dirty
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
        self.total_tokens += account.full_tokens
        self.dirty_pages += account.dirty


Place = tuple[int, int, int, str]
"""The place of a page in the order in which pages were said: unique, and less than the place of any page said later."""


class SaidPlaces:
    """The places of a session's residents among all its pages, in the order in which pages were said.

    A page keeps its place when it is updated, comes back by a fault or is restored; one that is appended again after it
    was dropped is said anew. Places of residents alone are kept: a session has many more pages.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def __getitem__(self, page_id: str) -> Place:
        """Raises KeyError for a page that is not resident."""
        return self._places[page_id]

    def keep_up(self, session: Session, changed: Iterable[str] | None) -> None:
        """Move to the session's revision, from one since when the pages `changed`; None for any of them."""
        residents = session.working_set
        if changed is None:
            self._places = {}
            changed = [resident.page_id for resident in residents]
        unknown = []
        for page_id in changed:
            if page_id not in residents:
                self._places.pop(page_id, None)
            elif session.pages.at_hand[page_id].current.said_behind:
                self._places[page_id] = _place_behind(session.pages.at_hand[page_id])
            elif page_id not in self._places:
                unknown.append(page_id)
        self._places |= {page_id: (at, 0, 0, "") for page_id, at in session.pages.positions(unknown).items()}

    def in_order(self, session: Session) -> list[Resident]:
        """List the residents in the order in which they were said, whichever came back or was updated when."""
        return sorted(session.working_set, key=lambda resident: self._places[resident.page_id])


def _place_behind(page: PageState) -> Place:
    """The place of a page that was said again: behind the pages that there were, after those said again before it."""
    behind = page.current.said_behind
    revision = next(version.revision for version in page.versions if version.said_behind == behind)
    return behind - 1, 1, revision, page.page_id


def input_page_id(session: Session) -> str:
    """The user's message of this turn, while nothing but tool results has come after it; empty when there is none."""
    for resident in reversed(session.working_set):
        page = session.pages[resident.page_id]
        if page.current.turn != session.turn or resident.faulted:
            continue
        if page.role is MessageRole.USER:
            return page.page_id if resident.level == 0 and page.current.media is None else ""
        if page.role is MessageRole.ASSISTANT:
            return ""
    return ""


def words_page_id(session: Session) -> str:
    """The user's last message of this turn: what the turn is about; empty when there is none."""
    for resident in reversed(session.working_set):
        page = session.pages[resident.page_id]
        if page.role is MessageRole.USER and page.current.turn == session.turn and page.current.media is None:
            return page.page_id if resident.level == 0 and not resident.faulted else ""
    return ""


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
