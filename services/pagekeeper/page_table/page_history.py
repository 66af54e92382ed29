"""All that happened to one page, oldest first, read from the session's log again."""

from collections.abc import Iterator
from typing import Final, cast

from pagekeeper.core import events as ev
from pagekeeper.core.effects import Admitted, Compressed, Effect, Evicted, NotAdmitted
from pagekeeper.core.errors import PageNotFound
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import PageState
from pagekeeper.page_table.page_tokens import index_in, page_token
from pagekeeper.runtime import limits
from pagekeeper.runtime.history import History, Step
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.listing import ListRoom
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import FAULT_REASON, LINK_KIND, PAGE_TYPE
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1.session_pb2 import PageHistoryEntry as Entry

_LIST: Final = "history"


class PageHistory:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history

    async def get_page_history(self, caller: Caller, request: pb.GetPageHistoryRequest) -> pb.GetPageHistoryResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        if request.page_id not in session.pages:
            session = await self._sessions.read_existing(key, strict=True)
            if request.page_id not in session.pages:
                raise PageNotFound(request.page_id)
        room = ListRoom(limits.number_asked(request, "page_size"))
        # History only grows at its end, so a place in it stays the same place.
        first = index_in(_LIST, request.page_token)
        entries: list[Entry] = []
        position = 0
        async for step in self._history.steps(key):
            for entry in entries_of(step, request.page_id):
                position += 1
                if position <= first:
                    continue
                entry.revision, entry.turn = step.revision, step.session.turn
                entry.unix_ms = step.session.updated_unix_ms
                if not room.takes(entry):
                    token = page_token(_LIST, str(position - 1))
                    return pb.GetPageHistoryResponse(entries=entries, next_page_token=token)
                entries.append(entry)
        return pb.GetPageHistoryResponse(entries=entries)


def entries_of(step: Step, page_id: str) -> Iterator[Entry]:
    """The events of one record about a page: what was done to the page, then what the working set did with it.

    The entries have no revision, turn and time yet.
    """
    page = step.session.pages.get(page_id)
    if page is None:
        return
    if step.transaction is None:
        if _begins_a_fork(step, page):
            parent = step.session.parent_session_id
            yield Entry(mapped=Entry.Mapped(version=page.current_version, inherited_from_session_id=parent))
        return
    for event in step.transaction.events:
        yield from _entries_of_event(event, page)
    for effect in step.effects:
        entry = _entry_of_effect(effect.what, page_id, step.transaction)
        if entry is not None:
            yield entry


def _begins_a_fork(step: Step, page: PageState) -> bool:
    """A fork's first record has no archive: nothing came before it here."""
    return page.mapped and bool(step.session.parent_session_id) and not step.session.archive


def _entries_of_event(event: ev.Event, page: PageState) -> Iterator[Entry]:  # noqa: C901, PLR0912 - one case per kind
    page_id = page.page_id
    match event:
        case ev.PagesMapped(pages):
            for one in pages:
                if one.page_id == page_id:
                    yield Entry(mapped=Entry.Mapped(version=one.version, size_bytes=one.full.size_bytes))
        case ev.PagesAnnotated(annotations):
            for annotation in annotations:
                if annotation.page_id == page_id:
                    yield Entry(annotated=_annotated(annotation))
        case ev.PagesLinked(relations):
            for relation in relations:
                if relation.page_id == page_id:
                    kind, target = LINK_KIND[relation.link.kind], relation.link.target_page_id
                    yield Entry(linked=page_pb2.PageLink(kind=kind, target_page_id=target))
        case ev.PagesUnmapped(page_ids):
            if page_id in page_ids:
                yield Entry(unmapped=Entry.Unmapped())
        case ev.RepresentationsAdded(representations):
            for added in representations:
                if added.page_id == page_id:
                    yield Entry(represented=_represented(added))
        case ev.PagesPlaced(placements):
            for placed in placements:
                if placed.page_id == page_id:
                    yield Entry(placed=Entry.Placed(version=placed.version, level=placed.level))
        case ev.PagesPinned(page_ids):
            if page_id in page_ids:
                yield Entry(pinned=Entry.Pinned())
        case ev.PagesUnpinned(page_ids):
            if page_id in page_ids:
                yield Entry(unpinned=Entry.Unpinned())
        case ev.ImportanceSet(changed_id, importance):
            if changed_id == page_id:
                yield Entry(importance_set=Entry.ImportanceSet(importance=importance))
        case ev.WorkingSetRestored(checkpoint_id=checkpoint_id, revision=revision):
            version = page.current_version if page.mapped else 0
            yield Entry(restored=Entry.Restored(revision=revision, checkpoint_id=checkpoint_id, version=version))
        case _:
            return


def _annotated(annotation: ev.PageAnnotation) -> "Entry.Annotated":
    annotated = Entry.Annotated(metadata={entry.key: entry.value for entry in annotation.metadata})
    if annotation.hint is not None:
        annotated.hint = annotation.hint
    if annotation.page_type is not None:
        annotated.page_type = PAGE_TYPE[annotation.page_type]
    return annotated


def _represented(added: ev.AddedRepresentation) -> "Entry.Represented":
    made = added.representation
    return Entry.Represented(
        version=added.version, level=made.level, size_tokens=made.size_tokens, compressor=made.compressor
    )


def _entry_of_effect(what: Effect, page_id: str, transaction: ev.Transaction) -> Entry | None:
    match what:
        case Admitted(page_id=of, level=level, size_tokens=tokens, faulted=faulted, thrash=thrash) if of == page_id:
            admitted = Entry.Admitted(level=level, size_tokens=tokens, thrash=thrash)
            if faulted:
                admitted.fault_reason = _fault_reason(transaction, page_id)
            return Entry(admitted=admitted)
        case Compressed(of, before, after, freed_tokens) if of == page_id:
            compressed = Entry.Compressed(level_before=before, level_after=after, freed_tokens=freed_tokens)
            return Entry(compressed=compressed)
        case Evicted(of, tokens) if of == page_id:
            return Entry(evicted=Entry.Evicted(size_tokens=tokens))
        case NotAdmitted(of, tokens, room_tokens) if of == page_id:
            return Entry(not_admitted=Entry.NotAdmitted(size_tokens=tokens, room_tokens=room_tokens))
        case _:
            return None


def _fault_reason(transaction: ev.Transaction, page_id: str) -> "page_pb2.FaultReason.ValueType":
    """Unspecified when a restore, not a fault, made the page what a fault once had."""
    for event in transaction.events:
        if isinstance(event, ev.PageAdmitted) and event.page_id == page_id:
            return cast("page_pb2.FaultReason.ValueType", FAULT_REASON[event.reason])
    return page_pb2.FAULT_REASON_UNSPECIFIED
