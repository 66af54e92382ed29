"""Whether something may happen: a session and a request in, an event or a refusal out.

Pure: the shell around it reads the log, calls one of these, appends what it answers and tries again when another
writer came first. What is refused here never reaches the log, so folding never fails.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import Checkpoint, SessionState
from pagekeeper.core.errors import (
    CheckpointExists,
    CheckpointNotFound,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
    PageExists,
    PageNotFound,
    PinBudgetExceeded,
    RevisionConflict,
    SessionClosed,
    SessionExists,
    SessionNotFound,
)
from pagekeeper.core.fold_rules import WRITES_FOLD_VERSION
from pagekeeper.core.ids import ordinal_page_id
from pagekeeper.core.pages import (
    FaultReason,
    KeyValue,
    LinkKind,
    MessageRole,
    PageLink,
    PageState,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.session import Session
from pagekeeper.core.usage import teaches
from pagekeeper.core.working_set import Resident

METADATA_ENTRIES_MAX: Final = 32
LINKS_MAX: Final = 256
"""Relations of one page: each is part of its entry, wherever that goes."""


def transaction(
    session: Session, operation_id: str, request_digest: bytes, written_unix_ms: int, events: tuple[ev.Event, ...]
) -> ev.Transaction:
    """Return what is appended of these events, by the newest rules that every release knows which may fold them.

    A release that knows the session's policy knows the rules that the policy came with.
    """
    config = session.config
    for event in events:
        if isinstance(event, ev.SessionOpened | ev.SessionConfigured):
            config = event.config
    fold_version = max(WRITES_FOLD_VERSION, session.fold_version, POLICIES[config.eviction_policy].fold_version)
    return ev.Transaction(operation_id, request_digest, written_unix_ms, events, fold_version)


def readable(session: Session, session_id: str) -> Session:
    """Raises SessionNotFound."""
    if not session.exists:
        raise SessionNotFound(session_id)
    return session


def writable(session: Session, session_id: str, expected_revision: int = 0) -> Session:
    """Raises SessionNotFound, SessionClosed, RevisionConflict."""
    readable(session, session_id)
    if session.state is SessionState.CLOSED:
        raise SessionClosed(session_id)
    if expected_revision and expected_revision != session.revision:
        raise RevisionConflict(expected_revision, session.revision)
    return session


def known_page(session: Session, page_id: str) -> PageState:
    """Raises PageNotFound."""
    page = session.page(page_id)
    if page is None:
        raise PageNotFound(page_id)
    return page


def known_checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    """Raises CheckpointNotFound."""
    checkpoint = session.checkpoints.get(checkpoint_id)
    if checkpoint is None:
        raise CheckpointNotFound(checkpoint_id)
    return checkpoint


def absent(session: Session, session_id: str) -> Session:
    """Raises SessionExists: also for a deleted session, whose id stays taken for as long as its tombstone stands."""
    if session.exists or session.revision:
        raise SessionExists(session_id)
    return session


def open_session(
    session: Session, session_id: str, config: ev.SessionConfig, labels: Sequence[KeyValue]
) -> ev.SessionOpened:
    """Raises SessionExists."""
    absent(session, session_id)
    return ev.SessionOpened(config, tuple(labels))


def configure(session: Session, config: ev.SessionConfig, labels: Sequence[KeyValue]) -> ev.SessionConfigured | None:
    """None when nothing changes."""
    if (config, tuple(labels)) == (session.config, session.labels):
        return None
    return ev.SessionConfigured(config, tuple(labels))


def close(session: Session) -> ev.SessionClosed | None:
    """None when it is closed already."""
    return None if session.state is SessionState.CLOSED else ev.SessionClosed()


@dataclass(frozen=True, slots=True)
class NewPage:
    """A page to map. What the session decides is ignored in `mapped`: its version, and the tokens of its line.

    A new page whose `page_id` is empty gets an ordinal of the session (`ids.ordinal_page_id`).
    """

    mapped: ev.MappedPage
    new_version: bool


def map_pages(
    session: Session, new_pages: Sequence[NewPage], count_tokens: Callable[[ev.MappedPage, TrustClass], int]
) -> ev.PagesMapped:
    """`count_tokens` counts the page's full line, which shows an id and a trust that the session may have to decide.

    Raises PageExists, PageNotFound (a link to nothing, a version of nothing), PinBudgetExceeded, InvalidField.
    """
    mapped: list[ev.MappedPage] = []
    earlier: dict[str, ev.MappedPage] = {}
    pinned: dict[str, int] = {}
    turn, said_in = session.turn, dict[str, int]()
    for new, page_id in zip(new_pages, _page_ids(session, new_pages), strict=True):
        before = session.pages.get(page_id)
        here = earlier.get(page_id)
        replaced = here or (before if before is not None and before.mapped else None)
        if new.new_version and replaced is None:
            raise PageNotFound(page_id)
        if not new.new_version and replaced is not None:
            raise PageExists(page_id)
        _check_same_kind(page_id, here or before, new.mapped)
        named = _attributed(new.mapped._replace(page_id=page_id), replaced)
        for link in named.links:
            if link.target_page_id not in earlier:
                known_page(session, link.target_page_id)
        trust = _trust(session, earlier, named)
        page = named._replace(
            version=1 + (here.version if here else len(before.versions) if before else 0),
            trust=trust,
            pinned=named.pinned or (replaced is not None and replaced.pinned),
            full=replace(named.full, size_tokens=count_tokens(named, trust)),
        )
        earlier[page_id] = page
        mapped.append(page)
        turn += page.role is MessageRole.USER and replaced is None
        said_in.setdefault(page_id, replaced.current.turn if isinstance(replaced, PageState) else turn)
        if page.pinned or (page.role is MessageRole.SYSTEM and session.keeps_instructions_of(said_in[page_id])):
            pinned[page_id] = page.full.size_tokens
    if pinned:
        _check_pin_budget(session, pinned)
    return ev.PagesMapped(tuple(mapped))


def _page_ids(session: Session, new_pages: Sequence[NewPage]) -> Iterator[str]:
    """The pages' ids: those that their caller chose, and for each other one its ordinal in the session.

    An ordinal whose id is taken is passed over, also when it is another page of this batch that takes it.
    """
    chosen = {new.mapped.page_id for new in new_pages}
    pages_before, free = len(session.pages), 0
    for new in new_pages:
        page_id = new.mapped.page_id
        if not page_id:
            free = max(free or session.pages.free_ordinal(), pages_before + 1)
            while (page_id := ordinal_page_id(free)) in session.pages or page_id in chosen:
                free += 1
            free += 1
        pages_before += page_id not in session.pages
        yield page_id


def _attributed(mapped: ev.MappedPage, before: PageState | ev.MappedPage | None) -> ev.MappedPage:
    """A version of a page, said by whom and when the version before was said, unless its caller says otherwise.

    Raises InvalidField when the version answers another tool call than the page: the line of either names the call.
    """
    if before is None:
        return mapped
    if mapped.tool_call_id not in ("", before.tool_call_id):
        raise InvalidField(
            "pages.tool_call_id", f"must stay {before.tool_call_id!r} in a version of {mapped.page_id!r}"
        )
    attributed = before.current if isinstance(before, PageState) else before
    return mapped._replace(
        tool_name=mapped.tool_name or before.tool_name,
        tool_call_id=before.tool_call_id,
        speaker=mapped.speaker or attributed.speaker,
        said_unix_ms=mapped.said_unix_ms or attributed.said_unix_ms,
    )


def _check_same_kind(page_id: str, before: PageState | ev.MappedPage | None, mapped: ev.MappedPage) -> None:
    """A page may say something else in its next version, but stays what it is."""
    if before is not None and (before.modality, before.role) != (mapped.modality, mapped.role):
        raise InvalidField(
            "pages.new_version",
            f"must keep the modality ({before.modality}) and role ({before.role}) of page {page_id!r}",
        )


def _trust(session: Session, earlier: dict[str, ev.MappedPage], mapped: ev.MappedPage) -> TrustClass:
    """Return a page's trust: the least of its sources and of pages that it replaces, not of pages that it mentions."""
    parents = [
        earlier[link.target_page_id].trust
        if link.target_page_id in earlier
        else session.pages[link.target_page_id].current.trust
        for link in mapped.links
        if link.kind in (LinkKind.DERIVED_FROM, LinkKind.REPRESENTS)
    ]
    return min(mapped.trust, *parents) if parents else mapped.trust


def _check_pin_budget(session: Session, pinned_tokens: dict[str, int]) -> None:
    """Pins must leave the low watermark's share free, or nothing else could ever be resident."""
    limit = int(session.config.limit_tokens * session.config.target_utilization)
    counted_twice = sum(
        resident.size_tokens
        for page_id in pinned_tokens
        if (resident := session.working_set.get(page_id)) is not None and session.is_pinned(session.pages[page_id])
    )
    needed = sum(pinned_tokens.values()) + session.pinned_tokens() - counted_twice
    if needed > limit:
        raise PinBudgetExceeded(
            f"pinned pages would take {needed:,} tokens; at most {limit:,} may be pinned",
            limit_tokens=str(limit),
            needed_tokens=str(needed),
        )


def pin(session: Session, page_ids: Sequence[str]) -> ev.PagesPinned | None:
    """None when all are pinned already. Raises PageNotFound, PinBudgetExceeded."""
    new = tuple(page_id for page_id in dict.fromkeys(page_ids) if not known_page(session, page_id).pinned)
    if not new:
        return None
    sizes = {}
    for page_id in new:
        resident = session.working_set.get(page_id)
        sizes[page_id] = resident.size_tokens if resident else 0
    _check_pin_budget(session, sizes)
    return ev.PagesPinned(new)


def unpin(session: Session, page_ids: Sequence[str]) -> ev.PagesUnpinned | None:
    """None when none is pinned. Raises PageNotFound."""
    pinned = tuple(page_id for page_id in dict.fromkeys(page_ids) if known_page(session, page_id).pinned)
    return ev.PagesUnpinned(pinned) if pinned else None


def report_usage(session: Session, family: str, counted_tokens: int, input_tokens: int) -> ev.UsageReported | None:
    if not teaches(session.usage.get(family), counted_tokens, input_tokens):
        return None
    return ev.UsageReported(family, counted_tokens, input_tokens)


def set_importance(session: Session, page_id: str, importance: float) -> ev.ImportanceSet | None:
    """None when it is that already. Raises PageNotFound."""
    return None if known_page(session, page_id).importance == importance else ev.ImportanceSet(page_id, importance)


def resident_at(session: Session, page: PageState, target_level: int) -> Resident | None:
    """The page's residency when it is in the prompt at that fidelity already, and the one asked for says no more there.

    The fidelity is that of the level that the page has for `target_level`. A medium's full line is what was written
    about it; the level that was made of its bytes may say more.
    """
    resident, asked = session.working_set.get(page.page_id), page.current.nearest(target_level)
    if resident is None or resident.level > asked.level:
        return None
    return resident if asked.size_tokens <= resident.size_tokens else None


def admit(
    session: Session, page_id: str, target_level: int, reason: FaultReason, *, prefetched: bool
) -> ev.PageAdmitted | None:
    """None when the page is resident at that fidelity already.

    Raises PageNotFound, FaultLimitReached, FaultTokensExceeded, LevelUnavailable (no room for it even when all that
    may leave has left).
    """
    page = known_page(session, page_id)
    if resident_at(session, page, target_level) is not None:
        return None
    resident = session.working_set.get(page_id)
    representation = page.current.nearest(target_level)
    if not prefetched:
        _check_fault_budget(session, representation)
    room = session.config.limit_tokens - session.pinned_tokens()
    if resident is not None and session.is_pinned(page):
        room += resident.size_tokens
    if representation.size_tokens > room:
        raise LevelUnavailable(
            f"page {page_id!r} takes {representation.size_tokens:,} tokens at level {representation.level} and the "
            f"working set has room for {room:,}; ask for a lower fidelity or read a range of it",
            page_id=page_id,
            level=str(representation.level),
        )
    return ev.PageAdmitted(page_id, page.current_version, representation.level, reason, prefetched)


def use(session: Session, page_ids: Sequence[str]) -> ev.PagesUsed | None:
    """Return the event for the resident pages of `page_ids`, in order; None without one."""
    used = tuple(page_id for page_id in page_ids if page_id in session.working_set)
    return ev.PagesUsed(used) if used else None


def _check_fault_budget(session: Session, representation: StoredRepresentation) -> None:
    limit = session.config.max_faults_per_turn
    if session.counters.faults_this_turn >= limit:
        raise FaultLimitReached(f"this turn's {limit} page faults are used up", limit=str(limit))
    limit_tokens = session.config.max_fault_tokens_per_turn
    needed = session.counters.fault_tokens_this_turn + representation.size_tokens
    if needed > limit_tokens:
        raise FaultTokensExceeded(
            f"this turn's faults may bring in {limit_tokens:,} tokens; with this page they would be {needed:,}",
            limit_tokens=str(limit_tokens),
            needed_tokens=str(needed),
        )


def unmap(session: Session, page_ids: Sequence[str]) -> ev.PagesUnmapped:
    """Raises PageNotFound."""
    return ev.PagesUnmapped(tuple(known_page(session, page_id).page_id for page_id in dict.fromkeys(page_ids)))


def annotate(session: Session, annotation: ev.PageAnnotation) -> ev.PagesAnnotated | None:
    """None when it says what is known already. Raises PageNotFound, InvalidField (too much metadata)."""
    page = known_page(session, annotation.page_id)
    known = _pairs(page.metadata)
    merged = {key: value for key, value in (known | _pairs(annotation.metadata)).items() if value}
    if len(merged) > METADATA_ENTRIES_MAX:
        raise InvalidField("metadata", f"would have {len(merged)} entries; a page has at most {METADATA_ENTRIES_MAX}")
    says_nothing = (
        annotation.hint in (None, page.hint) and annotation.page_type in (None, page.page_type) and merged == known
    )
    return None if says_nothing else ev.PagesAnnotated((annotation,))


def _pairs(metadata: Sequence[KeyValue]) -> dict[str, str]:
    return {kv.key: kv.value for kv in metadata}


def link(session: Session, page_id: str, links: Sequence[PageLink]) -> ev.PagesLinked | None:
    """Return the event for the new links of `links`; None without one. Raises PageNotFound, InvalidField (too many)."""
    page = known_page(session, page_id)
    for one in links:
        known_page(session, one.target_page_id)
    new = [one for one in dict.fromkeys(links) if one not in page.links]
    if len(page.links) + len(new) > LINKS_MAX:
        raise InvalidField("links", f"would be {len(page.links) + len(new)}; a page has at most {LINKS_MAX}")
    return ev.PagesLinked(tuple(ev.PageRelation(page_id, one) for one in new)) if new else None


def create_checkpoint(session: Session, checkpoint_id: str, name: str) -> ev.CheckpointCreated:
    """Raises CheckpointExists."""
    if checkpoint_id in session.checkpoints:
        raise CheckpointExists(checkpoint_id)
    return ev.CheckpointCreated(checkpoint_id, name)


def delete_checkpoint(session: Session, checkpoint_id: str) -> ev.CheckpointDeleted:
    """Raises CheckpointNotFound."""
    return ev.CheckpointDeleted(known_checkpoint(session, checkpoint_id).checkpoint_id)


def add_representations(session: Session, added: Sequence[ev.AddedRepresentation]) -> ev.RepresentationsAdded | None:
    """Return the event for the new representations of `added`; None without one. Raises PageNotFound."""
    new: dict[tuple[str, int, int], ev.AddedRepresentation] = {}
    for one in added:
        version = known_page(session, one.page_id).version(one.version)
        if version is None:
            raise PageNotFound(one.page_id)
        if version.at(one.representation.level) is None:
            new.setdefault((one.page_id, one.version, one.representation.level), one)
    return ev.RepresentationsAdded(tuple(new.values())) if new else None


def place(session: Session, placements: Sequence[ev.PlacedRepresentation]) -> ev.PagesPlaced | None:
    """Return the event for the dirty pages of `placements`, unmapped ones included for history; None without one."""
    dirty = []
    for placed in placements:
        page = session.pages.get(placed.page_id)
        version = page.version(placed.version) if page else None
        representation = version.at(placed.level) if version else None
        if representation is not None and representation.dirty:
            dirty.append(placed)
    return ev.PagesPlaced(tuple(dirty)) if dirty else None


def restore(then: Session, checkpoint_id: str) -> ev.WorkingSetRestored:
    """The event that makes a session what `then`, an earlier fold of it, was."""
    mapped = list(then.mapped_pages())
    return ev.WorkingSetRestored(
        checkpoint_id=checkpoint_id,
        revision=then.revision,
        mapped=tuple(ev.PageVersion(p.page_id, p.current_version, p.importance) for p in mapped),
        resident=tuple(ev.RestoredResident(r.page_id, r.version, r.level, r.faulted) for r in then.working_set),
        pinned_page_ids=tuple(p.page_id for p in mapped if p.pinned),
    )
