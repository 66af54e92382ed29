"""All that happened to one page, oldest first, read from the session's log again."""

from collections.abc import Iterator
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.effects import Admitted, Compressed, Effect, Evicted, NotAdmitted
from pagekeeper.core.errors import PageNotFound
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import PageState
from pagekeeper.page_table.page_tokens import index_in, page_token
from pagekeeper.runtime.history import History, Step
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.v1 import memory_service_pb2 as pb

LISTED_DEFAULT: Final = 100
LISTED_MAX: Final = 1_000

_LIST: Final = "history"

Told = tuple[str, str]
"""What happened, and details for people."""


class PageHistory:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history

    async def get_page_history(self, caller: Caller, request: pb.GetPageHistoryRequest) -> pb.GetPageHistoryResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key)
        if request.page_id not in session.pages:
            session = await self._sessions.read_existing(key, strict=True)
            if request.page_id not in session.pages:
                raise PageNotFound(request.page_id)
        size = min(request.page_size or LISTED_DEFAULT, LISTED_MAX)
        # History only grows at its end, so a place in it stays the same place.
        first = index_in(_LIST, request.page_token)
        entries: list[pb.PageHistoryEntry] = []
        position = 0
        async for step in self._history.steps(key):
            for what, detail in told_of(step, request.page_id):
                position += 1
                if position <= first:
                    continue
                if len(entries) == size:
                    token = page_token(_LIST, str(position - 1))
                    return pb.GetPageHistoryResponse(entries=entries, next_page_token=token)
                entries.append(
                    pb.PageHistoryEntry(
                        revision=step.revision,
                        turn=step.session.turn,
                        unix_ms=step.session.updated_unix_ms,
                        what=what,
                        detail=detail,
                    )
                )
        return pb.GetPageHistoryResponse(entries=entries)


def told_of(step: Step, page_id: str) -> Iterator[Told]:
    """What one record says of a page: first what was done, then what followed from it."""
    page = step.session.pages.get(page_id)
    if page is None:
        return
    if step.transaction is None:
        if _begins_a_fork(step, page):
            yield "mapped", f"version {page.current_version}, inherited from session {step.session.parent_session_id}"
        return
    for event in step.transaction.events:
        yield from _told_by_event(event, page)
    for effect in step.effects:
        told = _told_by_happening(effect.what, page_id, step.transaction)
        if told is not None:
            yield told


def _begins_a_fork(step: Step, page: PageState) -> bool:
    """A fork's first record has no archive: nothing came before it here."""
    return page.mapped and bool(step.session.parent_session_id) and not step.session.archive


def _told_by_event(event: ev.Event, page: PageState) -> Iterator[Told]:  # noqa: C901, PLR0912 - one case per kind of event
    page_id = page.page_id
    match event:
        case ev.PagesMapped(pages):
            for mapped in pages:
                if mapped.page_id == page_id:
                    yield "mapped", f"version {mapped.version}, {mapped.full.size_bytes:,} bytes"
        case ev.PagesAnnotated(annotations):
            for annotation in annotations:
                if annotation.page_id == page_id:
                    yield "annotated", _annotated(annotation)
        case ev.PagesLinked(relations):
            for relation in relations:
                if relation.page_id == page_id:
                    yield "linked", f"{relation.link.kind.name.lower()} {relation.link.target_page_id}"
        case ev.PagesUnmapped(page_ids):
            if page_id in page_ids:
                yield "unmapped", ""
        case ev.RepresentationsAdded(representations):
            for added in representations:
                if added.page_id == page_id:
                    one = added.representation
                    yield "represented", f"version {added.version}, level {one.level}, {one.size_tokens:,} tokens"
        case ev.PagesPlaced(placements):
            for placed in placements:
                if placed.page_id == page_id:
                    yield "placed", f"version {placed.version}, level {placed.level}"
        case ev.PagesPinned(page_ids):
            if page_id in page_ids:
                yield "pinned", ""
        case ev.PagesUnpinned(page_ids):
            if page_id in page_ids:
                yield "unpinned", ""
        case ev.ImportanceSet(changed_id, importance):
            if changed_id == page_id:
                yield "importance_set", f"{importance:g}"
        case ev.WorkingSetRestored(revision=revision):
            how = f"version {page.current_version}" if page.mapped else "not mapped"
            yield "restored", f"as at revision {revision}: {how}"
        case _:
            return


def _annotated(annotation: ev.PageAnnotation) -> str:
    changed = [
        *(["hint"] if annotation.hint is not None else []),
        *([f"type {annotation.page_type.value}"] if annotation.page_type is not None else []),
        *(f"metadata {entry.key}" for entry in annotation.metadata),
    ]
    return ", ".join(changed)


def _told_by_happening(what: Effect, page_id: str, transaction: ev.Transaction) -> Told | None:
    match what:
        case Admitted(page_id=of, level=level, size_tokens=tokens, faulted=faulted, thrash=thrash) if of == page_id:
            by = f"faulted in, {_reason(transaction, page_id)}" if faulted else "appended"
            return "admitted", f"{by}, level {level}, {tokens:,} tokens{', evicted a moment ago' if thrash else ''}"
        case Compressed(of, before, after, freed_tokens) if of == page_id:
            return "compressed", f"level {before} to {after}, {freed_tokens:,} tokens freed"
        case Evicted(of, tokens) if of == page_id:
            return "evicted", f"{tokens:,} tokens freed"
        case NotAdmitted(of, tokens, room_tokens) if of == page_id:
            return "not_admitted", f"{tokens:,} tokens, room for {room_tokens:,}"
        case _:
            return None


def _reason(transaction: ev.Transaction, page_id: str) -> str:
    for event in transaction.events:
        if isinstance(event, ev.PageAdmitted) and event.page_id == page_id:
            return event.reason.value
    return "restored"
