"""The log as it really is: every record ever appended, folded as it comes, and held against what must be true of it.

It stands below every fault, so it knows what happened whatever anybody was told. A record that breaks a law is reported
at the moment of its append.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import Operation, SessionState
from pagekeeper.core.effects import Evicted, RecordedEffect
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.blobs.port import Bucket
from pagekeeper.runtime.log.port import APPEND_TIMEOUT_SECONDS, TOMBSTONE_SECONDS
from pagekeeper.v1 import event_pb2
from tests.fakes.memory_log import MemoryLog
from tests.simulation.violations import Violation, check


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session was at a revision, as far as answers are compared with it."""

    exists: bool
    closed: bool
    turn: int
    used_tokens: int
    limit_tokens: int
    resident: dict[str, tuple[int, int]]
    """Version and level by page."""
    mapped: dict[str, int]
    """Current version by page."""
    pinned: tuple[str, ...]


@dataclass(slots=True)
class Truth:
    """One session's."""

    session: Session = field(default_factory=Session)
    facts: dict[int, Facts] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    digests: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    """By page, version and level."""
    effects: list[RecordedEffect] = field(default_factory=list)
    rollups: int = 0

    @property
    def revision(self) -> int:
        return self.session.revision


class OracleLog(MemoryLog):
    """The shared log. Sees what it stores."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__()
        self._bucket = bucket
        self.truths: dict[SessionKey, Truth] = {}
        self.violations: list[Violation] = []

    async def append(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        touches: tuple[str, ...] | None = (),
        from_reserve: bool = False,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        revision = await super().append(
            key,
            expected_revision=expected_revision,
            operation_id=operation_id,
            data=data,
            touches=touches,
            from_reserve=from_reserve,
            timeout_seconds=timeout_seconds,
        )
        await self._see(key, revision, data, touches)
        return revision

    async def rollup(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        revision = await super().rollup(
            key,
            expected_revision=expected_revision,
            operation_id=operation_id,
            data=data,
            timeout_seconds=timeout_seconds,
        )
        await self._see(key, revision, data, ())
        return revision

    async def bury(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        stands_seconds: int = TOMBSTONE_SECONDS,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        revision = await super().bury(
            key,
            expected_revision=expected_revision,
            operation_id=operation_id,
            data=data,
            stands_seconds=stands_seconds,
            timeout_seconds=timeout_seconds,
        )
        await self._see(key, revision, data, None, buried=True)
        return revision

    async def _see(
        self, key: SessionKey, revision: int, data: bytes, touches: tuple[str, ...] | None, *, buried: bool = False
    ) -> None:
        """Nothing here waits for anything, so what is seen is seen with the append."""
        truth = self.truths.setdefault(key, Truth())
        if revision <= truth.revision:
            return  # told again
        record = event_pb2.LogRecord.FromString(data)
        try:
            if record.HasField("transaction"):
                transaction = codec.decode_transaction(record.transaction)
                self._transaction(key, truth, revision, transaction, touches, buried=buried)
            else:
                await self._snapshot(key, truth, revision, record.snapshot)
        except Violation as violation:
            # The writer must not see it: it would take it for a failure of its own.
            self.violations.append(violation)
        truth.facts[revision] = facts_of(truth.session)

    def _transaction(
        self,
        key: SessionKey,
        truth: Truth,
        revision: int,
        transaction: ev.Transaction,
        touches: tuple[str, ...] | None,
        *,
        buried: bool,
    ) -> None:
        session, operation_id = truth.session, transaction.operation_id
        check(operation_id not in truth.operations, f"{key}: {operation_id} is applied twice, now at {revision}")
        truth.operations[operation_id] = revision
        for event in transaction.events:
            check_event(session, event, revision)
        if buried:
            session, truth.effects = Session(), []
            truth.session = session
        never_leave = {p.page_id for p in session.mapped_pages() if session.is_pinned(p)}
        effects = session.apply(revision, transaction)
        gave_way = {h.what.page_id for h in effects if isinstance(h.what, Evicted)}
        dropped = {page_id for e in transaction.events if isinstance(e, ev.PagesUnmapped) for page_id in e.page_ids}
        if not any(isinstance(event, ev.WorkingSetRestored) for event in transaction.events):
            check(not gave_way & never_leave - dropped, f"{key}: pinned pages were evicted at {revision}")
        truth.effects += effects
        for event in transaction.events:
            _note_digests(truth, event)
        check_working_set(session)
        changed = {page_id for e in transaction.events for page_id in _changed_entries(e)}
        check(
            touches is None or changed <= set(touches),
            f"{key}: the notice of revision {revision} names {touches} but {sorted(changed)} changed",
        )

    async def _snapshot(self, key: SessionKey, truth: Truth, revision: int, snapshot: event_pb2.Snapshot) -> None:
        if snapshot.folded_revision:
            state = codec.encode_state(truth.session)
            check(snapshot.folded_revision == truth.revision, f"{key}: a snapshot of another revision")
            check(snapshot.state_digest == sha256(state).digest(), f"{key}: a snapshot of another state")
            truth.session.roll_up(revision, codec.decode_archive_segment(snapshot.archived))
            truth.rollups += 1
            return
        check(not truth.facts, f"{key}: a fork replaced a session")
        packed = snapshot.inline
        if snapshot.HasField("extent"):
            packed = await self._bucket.read(snapshot.extent.object_key, timeout_seconds=1)
        truth.session = codec.decode_state(codec.decompress_state(packed), revision)
        founded = Operation(snapshot.operation_id, snapshot.request_digest, revision)
        truth.session.operations = {founded.operation_id: founded}
        truth.operations[founded.operation_id] = revision
        for page in truth.session.pages.values():
            for version in page.versions:
                for one in version.representations:
                    truth.digests[page.page_id, version.version, one.level] = one.digest


def facts_of(session: Session) -> Facts:
    return Facts(
        exists=session.exists,
        closed=session.state is SessionState.CLOSED,
        turn=session.turn,
        used_tokens=session.working_set.used_tokens,
        limit_tokens=session.config.limit_tokens,
        resident={r.page_id: (r.version, r.level) for r in session.working_set},
        mapped={page.page_id: page.current_version for page in session.mapped_pages()},
        pinned=tuple(page.page_id for page in session.mapped_pages() if page.pinned),
    )


def check_event(session: Session, event: ev.Event, revision: int) -> None:  # noqa: C901, PLR0912 - a table, as the fold's
    """An event is only true of the state that it was decided on: a stale writer's would not be."""
    where = f"revision {revision}, {type(event).__name__}"
    match event:
        case ev.SessionOpened():
            check(not session.exists and not session.revision, f"{where}: the session is there already")
            return
        case ev.SessionDeleted():
            check(session.exists, f"{where}: there is no session")
            return
        case ev.PagesPlaced(placements):
            for placed in placements:
                version = session.pages[placed.page_id].version(placed.version)
                one = version.at(placed.level) if version else None
                check(one is not None and one.dirty, f"{where}: {placed.page_id} is not dirty")
            return
        case _:
            check(session.exists, f"{where}: there is no session")
    check(session.state is SessionState.OPEN, f"{where}: the session is closed")
    match event:
        case ev.PagesMapped(pages):
            new: dict[str, int] = {}
            for page in pages:
                known = session.pages.get(page.page_id)
                last = new.get(page.page_id, len(known.versions) if known else 0)
                check(page.version == last + 1, f"{where}: version {page.version} of {page.page_id} follows {last}")
                new[page.page_id] = page.version
        case ev.PagesUnmapped(page_ids) | ev.PagesPinned(page_ids) | ev.PagesUnpinned(page_ids):
            for page_id in page_ids:
                check(session.page(page_id) is not None, f"{where}: {page_id} is not mapped")
        case ev.PagesLinked(relations):
            for relation in relations:
                check(session.page(relation.link.target_page_id) is not None, f"{where}: a link to what is not mapped")
        case ev.PageAdmitted(page_id, admitted):
            page_state = session.page(page_id)
            check(page_state is not None and page_state.current_version == admitted, f"{where}: stale {page_id}")
        case ev.CheckpointCreated(checkpoint_id):
            check(checkpoint_id not in session.checkpoints, f"{where}: {checkpoint_id} is taken")
        case ev.CheckpointDeleted(checkpoint_id):
            check(checkpoint_id in session.checkpoints, f"{where}: there is no {checkpoint_id}")
        case ev.RepresentationsAdded(representations):
            for added in representations:
                page_state = session.page(added.page_id)
                check(page_state is not None, f"{where}: {added.page_id} is not mapped")
        case _:
            pass


def check_working_set(session: Session) -> None:
    """The invariants that `session` promises after every transaction."""
    where = f"revision {session.revision}"
    used = 0
    for resident in session.working_set:
        page = session.page(resident.page_id)
        check(page is not None, f"{where}: {resident.page_id} is resident but not mapped")
        assert page is not None
        representation = page.versions[resident.version - 1].at(resident.level)
        check(representation is not None, f"{where}: {resident.page_id} is resident at a level that it has not")
        assert representation is not None
        check(representation.size_tokens == resident.size_tokens, f"{where}: {resident.page_id} counts otherwise")
        used += representation.size_tokens
    check(used == session.working_set.used_tokens, f"{where}: used tokens are not the sum")
    unpinned = [r for r in session.working_set if not session.is_pinned(session.pages[r.page_id])]
    check(used <= session.config.limit_tokens or not unpinned, f"{where}: {used} tokens are used, with pages to evict")


def _note_digests(truth: Truth, event: ev.Event) -> None:
    match event:
        case ev.PagesMapped(pages):
            for page in pages:
                truth.digests[page.page_id, page.version, 0] = page.full.digest
        case ev.RepresentationsAdded(representations):
            for added in representations:
                address = (added.page_id, added.version, added.representation.level)
                truth.digests.setdefault(address, added.representation.digest)
        case _:
            pass


def _changed_entries(event: ev.Event) -> set[str]:
    """Pages whose page-table entries an event changes, so that a cache must hear of them."""
    match event:
        case ev.PagesMapped(pages):
            return {page.page_id for page in pages if page.version > 1}
        case ev.PagesAnnotated(named) | ev.RepresentationsAdded(named) | ev.PagesPlaced(named):
            return {one.page_id for one in named}
        case ev.PagesUnmapped(page_ids):
            return set(page_ids)
        case _:
            return set()
