"""Which pages changed since a revision, so that what is derived from a session can be kept up instead of made anew.

A trace that a fold leaves behind, never part of its state: a session read from a snapshot has none of what came before,
and answers that it may have been any page.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from pagekeeper.memory import events as ev
from pagekeeper.memory.happenings import Admitted, Compressed, Evicted, Happened, NotAdmitted


class Changes:
    """Pages by the revision that last changed anything of them but their age in turns."""

    def __init__(self, known_after: int = 0) -> None:
        self._known_after = known_after
        self._revisions: dict[str, int] = {}

    def note(self, revision: int, events: Iterable[ev.Event], happened: Iterable[Happened]) -> None:
        for page_ids in map(_pages_of, events):
            if page_ids is None:
                self._known_after = revision
                self._revisions.clear()
            else:
                self._mark(revision, page_ids)
        self._mark(revision, _pages_affected(happened))

    def since(self, revision: int) -> list[str] | None:
        """Pages changed after `revision`, the last change first; None when it may be any of them."""
        if revision < self._known_after:
            return None
        return list(takewhile(lambda page_id: self._revisions[page_id] > revision, reversed(self._revisions)))

    def _mark(self, revision: int, page_ids: Iterable[str]) -> None:
        for page_id in page_ids:
            self._revisions.pop(page_id, None)
            self._revisions[page_id] = revision


def _pages_of(event: ev.Event) -> Iterable[str] | None:
    """Pages that an event names; None for one that is about all of them."""
    match event:
        case ev.PagesMapped(pages):
            return [page.page_id for page in pages]
        case ev.PagesAnnotated(named) | ev.PagesLinked(named) | ev.RepresentationsAdded(named) | ev.PagesPlaced(named):
            return [one.page_id for one in named]
        case (
            ev.PagesUnmapped(page_ids) | ev.PagesUsed(page_ids) | ev.PagesPinned(page_ids) | ev.PagesUnpinned(page_ids)
        ):
            return page_ids
        case ev.PageAdmitted(page_id) | ev.ImportanceSet(page_id):
            return (page_id,)
        case ev.SessionDeleted() | ev.WorkingSetRestored():
            return None
        case _:
            return ()


def _pages_affected(happened: Iterable[Happened]) -> Iterator[str]:
    return (what.page_id for what in happened if isinstance(what, Admitted | NotAdmitted | Compressed | Evicted))
