"""Which pages changed since a revision, so that what is derived from a session can be kept up instead of made anew.

A trace that a fold leaves behind, never part of its state: a session read from a snapshot has none of what came before,
and answers that it may have been any page.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.effects import Admitted, Compressed, Effect, Evicted, NotAdmitted
from pagekeeper.core.pages import PageState

LENGTH_AT_FIRST: Final = 256
GROWTH: Final = 1.25
"""A trace grows to so many changes a page before all but each page's last are forgotten."""

_ABOUT_A_PAGE: Final = (Admitted, NotAdmitted, Compressed, Evicted)


class Changes:
    """Pages by the revisions that changed anything of them but their age in turns."""

    def __init__(self, known_after: int = 0) -> None:
        self._known_after = known_after
        self._page_ids: list[str] = []
        self._revisions = array("Q")
        self._ends = array("Q")
        """For each of those revisions, ascending, where its changes end in the list of pages."""
        self._length_max = LENGTH_AT_FIRST

    def note(
        self,
        revision: int,
        events: Iterable[ev.Event],
        effects: Iterable[Effect],
        pages: Mapping[str, PageState],
        *,
        newer_rules: bool = False,
    ) -> list[str] | None:
        """Remember the pages that changed now, and answer them; None when it may be any of them.

        It keeps the ids of `pages`, which are kept anyway, in place of those of events, which are other strings.
        `newer_rules` says that the fold's rules are other ones from now on, which may say something else of any page.
        """
        changed: list[str] = []
        any_page = newer_rules
        if newer_rules:
            self._known_after = revision
        for event in events:
            page_ids = pages_of(event)
            if page_ids is None:
                any_page, self._known_after = True, revision
            else:
                changed += page_ids
        for what in effects:
            if isinstance(what, _ABOUT_A_PAGE):
                changed.append(what.page_id)
        for page_id in changed:
            page = pages.get(page_id)
            self._page_ids.append(page_id if page is None else page.page_id)
        if changed:
            self._revisions.append(revision)
            self._ends.append(len(self._page_ids))
        if len(self._page_ids) > self._length_max:
            self._forget_earlier_changes()
        return None if any_page else changed

    def since(self, revision: int) -> list[str] | None:
        """Pages changed after `revision`, the last change first; None when it may be any of them."""
        if revision < self._known_after:
            return None
        before = bisect_right(self._revisions, revision)
        first = self._ends[before - 1] if before else 0
        return list(dict.fromkeys(reversed(self._page_ids[first:])))

    def _forget_earlier_changes(self) -> None:
        """Of each page the last change alone is asked for."""
        page_ids: dict[str, None] = {}
        revisions, ends = [], []
        for at in reversed(range(len(self._revisions))):
            first = self._ends[at - 1] if at else 0
            earlier = len(page_ids)
            page_ids.update(dict.fromkeys(reversed(self._page_ids[first : self._ends[at]])))
            if len(page_ids) > earlier:
                revisions.append(self._revisions[at])
                ends.append(earlier)
        self._page_ids = list(reversed(page_ids))
        self._revisions = array("Q", reversed(revisions))
        self._ends = array("Q", [len(page_ids) - end for end in reversed(ends)])
        self._length_max = LENGTH_AT_FIRST + int(GROWTH * len(page_ids))


def pages_of(event: ev.Event) -> Iterable[str] | None:
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
