"""A session's part of a prompt beside residents: the user's last message, and the pages that the manifest may offer.

`Offering` is kept up from the pages that changed: a long session has thousands of pages, and a turn changes a few.

Invariant: everything here is what would be derived from the session anew. It holds at one revision, and `keep_up` moves
it to the session's.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pagekeeper.core.following import Following
from pagekeeper.core.pages import CompressionLevel, MessageRole, PageState, PageType
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident

_SPEAKERS: Final = (MessageRole.USER, MessageRole.ASSISTANT)
_TYPES_OF_WORDS: Final = frozenset({PageType.TRANSCRIPT, PageType.ARTIFACT})
VALUABLE_TYPES: Final = frozenset({PageType.CLAIM, PageType.SUMMARY, PageType.PROCEDURE})

Usefulness = tuple[bool, float, int, str]


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


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The user's last message. `answered` says that a message of the assistant came after it."""

    page_id: str
    answered: bool


@dataclass(frozen=True, slots=True)
class SaidLast:
    """The page that holds the user's last words. `in_context` says that the prompt's pages show all of the words.

    `is_input` says that the words are what the model is to answer. A medium in the context is not: it is known by id.
    """

    page: PageState
    is_input: bool
    in_context: bool


def said_last(session: Session, last: LastMessage | None) -> SaidLast | None:
    """The user's last message while it waits for an answer or is of the current turn."""
    if last is None:
        return None
    page = session.pages[last.page_id]
    resident = session.working_set.get(page.page_id)
    in_context = resident is not None and _shows_the_words(page, resident)
    if last.answered:
        return SaidLast(page, is_input=False, in_context=in_context) if page.current.turn == session.turn else None
    return SaidLast(page, page.current.media is None or not in_context, in_context)


def _shows_the_words(page: PageState, resident: Resident) -> bool:
    """Whether the page's line says what the user said.

    A text does at its full level, among what was said. A medium does at every level and by a fault too: its lower
    levels tell what is in the bytes, which its full line does not.
    """
    if page.current.media is not None:
        return True
    return not resident.faulted and resident.level == CompressionLevel.FULL


class LastSaid:
    """The last page of words of the user and of the assistant, whether or not a prompt has room for it."""

    def __init__(self) -> None:
        self._last: dict[MessageRole, tuple[Place, str]] = {}
        self._said_again: set[str] = set()

    def message(self) -> LastMessage | None:
        """None when the user has said nothing that is left."""
        words, answer = self._last.get(MessageRole.USER), self._last.get(MessageRole.ASSISTANT)
        return None if words is None else LastMessage(words[1], answered=answer is not None and answer > words)

    def find(self, session: Session, said_again: Iterable[str]) -> None:
        """Look through the session. `said_again` are the mapped pages that were dropped and appended again."""
        self._said_again, self._last = set(said_again), {}
        found: dict[MessageRole, str] = {}
        for page_id in session.pages.newest_first():
            page = session.page(page_id)
            if page is not None and _says_words(page) and not page.current.said_behind:
                found.setdefault(page.role, page_id)
                if len(found) == len(_SPEAKERS):
                    break
        self._note(session, (*found.values(), *self._said_again))

    def keep_up(self, session: Session, changed: Iterable[str], said: Sequence[str]) -> None:
        """Take in what `changed`, of which the pages `said` hold words that they did not hold there before."""
        self._said_again.update(page_id for page_id in said if session.pages[page_id].current.said_behind)
        last = {page_id for _, page_id in self._last.values()}.intersection(changed)
        if all(_says_words(session.page(page_id)) for page_id in last):
            self._note(session, said)
        else:
            self.find(session, self._said_again)

    def _note(self, session: Session, page_ids: Iterable[str]) -> None:
        pages = [page for page_id in page_ids if (page := session.page(page_id)) is not None and _says_words(page)]
        plain = [page.page_id for page in pages if not page.current.said_behind]
        positions = session.pages.positions(plain) if plain else {}
        for page in pages:
            at = positions.get(page.page_id)
            said = (_place_behind(page) if at is None else (at, 0, 0, ""), page.page_id)
            self._last[page.role] = max(said, self._last.get(page.role, said))


@dataclass(frozen=True, slots=True)
class _Account:
    """One mapped page's part of the totals.

    `said_behind` is that of the version; None for a page that holds no words. `offered` is the page's place in the
    manifest; None for a page in the context.
    """

    full_tokens: int
    dirty: bool
    said_behind: int | None
    offered: Usefulness | None


class Offering:
    """The pages of a session that are not in its context, in the order in which a prompt offers them; and totals."""

    def __init__(self) -> None:
        self._following = Following()
        self._accounts: dict[str, _Account] = {}
        self._offered: list[Usefulness] = []
        self._last_said = LastSaid()
        self.total_tokens = self.dirty_pages = 0

    @property
    def last_message(self) -> LastMessage | None:
        """The user's last message, in the prompt or not."""
        return self._last_said.message()

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
            self._last_said.find(session, (page_id for page_id, a in self._accounts.items() if a.said_behind))
        else:
            said = [page_id for page_id in changed if self._change(session, page_id)]
            self._last_said.keep_up(session, changed, said)
        return changed

    def offered(self, limit: int) -> Iterator[str]:
        """Pages that are not in the context, the most useful first: those that were faulted in stay offered."""
        return (page_id for *_, page_id in islice(self._offered, limit))

    def _change(self, session: Session, page_id: str) -> bool:
        """Whether the page holds words that it did not hold, there, when the session was looked at last."""
        before = self._accounts.pop(page_id, None)
        if before is not None:
            self.total_tokens -= before.full_tokens
            self.dirty_pages -= before.dirty
            if before.offered is not None:
                del self._offered[bisect_left(self._offered, before.offered)]
        page = session.page(page_id)
        if page is None:
            return False
        account = _account(session, page)
        self._enter(page, account)
        if account.offered is not None:
            insort(self._offered, account.offered)
        return account.said_behind is not None and (before is None or before.said_behind != account.said_behind)

    def _enter(self, page: PageState, account: _Account) -> None:
        self._accounts[page.page_id] = account
        self.total_tokens += account.full_tokens
        self.dirty_pages += account.dirty


def _says_words(page: PageState | None) -> bool:
    """Whether there is such a page, and it is a message: no claim, summary or the like that was made of messages."""
    return page is not None and page.role in _SPEAKERS and page.current.mapped_type in _TYPES_OF_WORDS


def _account(session: Session, page: PageState) -> _Account:
    resident = session.working_set.get(page.page_id)
    offered = None if resident is not None and not resident.faulted else _least_useful_last(page)
    said_behind = page.current.said_behind if _says_words(page) else None
    return _Account(page.current.full.size_tokens, page.dirty, said_behind, offered)


def _least_useful_last(page: PageState) -> Usefulness:
    """Claims, summaries and procedures first, then by importance, then what is newest.

    Nothing that a fault changes: the list stands before the context, and a provider caches what does not change.
    """
    valuable = page.page_type in VALUABLE_TYPES
    return (not valuable, -page.importance, -page.current.revision, page.page_id)
