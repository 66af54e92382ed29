"""Changes to the working set: turns, admissions, pins, importance, a provider's count. Each is one append at most."""

from collections.abc import Callable, Sequence
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import SessionState
from pagekeeper.core.errors import InvalidField, RevisionConflict
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.lru import Lru
from pagekeeper.core.pages import CompressionLevel, FaultReason, StorageTier
from pagekeeper.core.session import Session
from pagekeeper.core.usage import corrected_percent
from pagekeeper.runtime.codec import happenings_of
from pagekeeper.runtime.history import History, state_after
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import Mutation, request_of
from pagekeeper.runtime.sessions import Committed, Request, Sessions
from pagekeeper.runtime.tokens import family_of
from pagekeeper.runtime.views import FAULT_REASON, FAULT_REASON_OF, TIER, page_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

LEVEL_MAX: Final = max(CompressionLevel)
USES_WAITING_MAX: Final = 64
"""Uses of resident pages that wait for a session's next admission; the oldest are forgotten."""
SESSIONS_WITH_USES_MAX: Final = 4_096

Event = ev.TurnBegun | ev.PagesPinned | ev.PagesUnpinned | ev.ImportanceSet | ev.UsageReported
Decide = Callable[[Session], Event | None]


class Residency:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history
        self._hits: Lru[SessionKey, list[str]] = Lru(count_max=SESSIONS_WITH_USES_MAX)

    async def begin_turn(self, caller: Caller, request: pb.BeginTurnRequest) -> pb.BeginTurnResponse:
        key = session_key(caller.tenant, request.session_id)
        committed = await self._commit(key, request, request.expected_revision, _turn_begun)
        then = await state_after(self._history, key, committed)
        return pb.BeginTurnResponse(revision=committed.revision, turn=then.turn)

    async def pin(self, caller: Caller, request: pb.PinPagesRequest) -> pb.PinPagesResponse:
        def decide(session: Session) -> ev.PagesPinned | None:
            return decisions.pin(session, request.page_ids)

        key = session_key(caller.tenant, request.session_id)
        committed = await self._commit(key, request, request.expected_revision, decide, request.page_ids)
        return pb.PinPagesResponse(revision=committed.revision)

    async def unpin(self, caller: Caller, request: pb.UnpinPagesRequest) -> pb.UnpinPagesResponse:
        def decide(session: Session) -> ev.PagesUnpinned | None:
            return decisions.unpin(session, request.page_ids)

        key = session_key(caller.tenant, request.session_id)
        committed = await self._commit(key, request, request.expected_revision, decide, request.page_ids)
        return pb.UnpinPagesResponse(revision=committed.revision)

    async def set_importance(self, caller: Caller, request: pb.SetImportanceRequest) -> pb.SetImportanceResponse:
        if not 0 <= request.importance <= 1:
            raise InvalidField("importance", f"must be 0 to 1, not {request.importance}")

        def decide(session: Session) -> ev.ImportanceSet | None:
            return decisions.set_importance(session, request.page_id, request.importance)

        key = session_key(caller.tenant, request.session_id)
        committed = await self._commit(key, request, request.expected_revision, decide, [request.page_id])
        return pb.SetImportanceResponse(revision=committed.revision)

    async def report_usage(self, caller: Caller, request: pb.ReportUsageRequest) -> pb.ReportUsageResponse:
        key = session_key(caller.tenant, request.session_id)

        def decide(session: Session) -> ev.UsageReported | None:
            family = family_of(request.model or session.config.model)
            return decisions.report_usage(session, family.name, request.counted_tokens, request.input_tokens)

        committed = await self._commit(key, request, 0, decide)
        family = family_of(request.model or committed.session.config.model)
        margin_percent = corrected_percent(family.margin_percent, committed.session.usage.get(family.name))
        return pb.ReportUsageResponse(revision=committed.revision, margin_percent=margin_percent)

    async def admit(self, caller: Caller, request: working_pb.AdmitRequest) -> working_pb.AdmitResponse:
        """Bring a page in, with the bytes that the caller has read and no others.

        A page that is resident at that fidelity is answered like any read, from a state as new as was asked for:
        nothing is appended and nobody else is asked. The use of the page goes into the log with the session's next
        admission on this replica. Uses improve eviction, and losing one with a replica harms nothing.
        """
        if request.target_level > LEVEL_MAX:
            raise InvalidField("target_level", f"must be 0 to {LEVEL_MAX}, not {request.target_level}")
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, min_revision=request.min_revision)
        if request.request_id not in session.operations and _is_hit(session, request):
            self._remember_hit(key, request.page_id)
            nothing = Committed(session, session.revision, session.revision, (), repeated=False)
            return _admitted(nothing, request, StorageTier.L0)
        source = StorageTier.L0
        hits = self._hits.pop(key) or []

        def decide(session: Session) -> tuple[ev.Event, ...]:
            nonlocal source
            decisions.writable(session, key.session)
            source = session.tier(decisions.known_page(session, request.page_id))
            admitted = _the_page_that_was_read(session, request)
            used = decisions.use(session, hits)
            return tuple(event for event in (used, admitted) if event is not None) if admitted is not None else ()

        committed = await self._sessions.commit(key, _request_of_fault(request), decide)
        return _admitted(committed, request, source)

    def _remember_hit(self, key: SessionKey, page_id: str) -> None:
        hits = [*(self._hits.peek(key) or ()), page_id]
        self._hits.put(key, hits[-USES_WAITING_MAX:])

    async def _commit(
        self,
        key: SessionKey,
        request: Mutation,
        expected_revision: int,
        decide: Decide,
        page_ids: Sequence[str] = (),
    ) -> Committed:
        """`page_ids` are pages of which an entry shows what is decided here."""

        def decide_if_writable(session: Session) -> Event | None:
            decisions.writable(session, key.session, expected_revision)
            return decide(session)

        touches = tuple(dict.fromkeys(page_ids))
        return await self._sessions.commit(key, request_of(request), decide_if_writable, touches=touches)


def _turn_begun(_: Session) -> ev.TurnBegun:
    return ev.TurnBegun()


def _request_of_fault(request: working_pb.AdmitRequest) -> Request:
    """The fault that is asked for. The bytes that the caller has read may differ from one attempt to the next."""
    fault = working_pb.AdmitRequest()
    fault.CopyFrom(request)
    fault.ClearField("version")
    fault.ClearField("level")
    return request_of(fault)


def _is_hit(session: Session, request: working_pb.AdmitRequest) -> bool:
    page = session.page(request.page_id)
    return (
        page is not None
        and session.state is SessionState.OPEN
        and decisions.resident_at(session, page, request.target_level) is not None
    )


def _the_page_that_was_read(session: Session, request: working_pb.AdmitRequest) -> ev.PageAdmitted | None:
    """Raises RevisionConflict when another version or level would be admitted, which nobody has read."""
    reason = FAULT_REASON_OF.get(request.reason, FaultReason.RESOLVE_REFERENCE)
    admitted = decisions.admit(session, request.page_id, request.target_level, reason, prefetched=False)
    if admitted is not None and (admitted.version, admitted.level) != (request.version, request.level):
        raise RevisionConflict(request.min_revision, session.revision)
    return admitted


def _admitted(committed: Committed, request: working_pb.AdmitRequest, source: StorageTier) -> working_pb.AdmitResponse:
    """Return the outcome. A repeated request gets the page's present place, without the effects of making room."""
    session = committed.session
    page = decisions.known_page(session, request.page_id)
    resident = session.working_set.get(request.page_id)
    level = resident.level if resident is not None else page.current.nearest(request.target_level).level
    representation = page.current.at(level)
    assert representation is not None, "resident at a level that the page has not"
    happenings, left_out = happenings_of(committed.effects)
    outcome = pb.FaultOutcome(
        page_id=request.page_id,
        reason=FAULT_REASON[FAULT_REASON_OF.get(request.reason, FaultReason.RESOLVE_REFERENCE)],
        source_tier=TIER[page.stored_tier if committed.repeated else source],
        level=level,
        size_tokens=representation.size_tokens,
        promoted=committed.repeated or committed.revision > committed.previous_revision,
        happenings=happenings,
        happenings_left_out=left_out,
        version=page.current_version,
    )
    return working_pb.AdmitResponse(
        revision=committed.revision,
        previous_revision=committed.previous_revision,
        outcome=outcome,
        page=page_message(session, page),
    )
