"""Changes to the working set: turns, admissions, pins and importance. Each is one append at most."""

from collections.abc import Callable
from typing import Final

from pagekeeper.memory import decisions
from pagekeeper.memory import events as ev
from pagekeeper.memory.errors import InvalidField
from pagekeeper.memory.ids import session_key
from pagekeeper.memory.pages import FaultReason, StorageTier
from pagekeeper.memory.session import Session
from pagekeeper.runtime.codec import happening_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import Mutation, request_of
from pagekeeper.runtime.sessions import Committed, Sessions
from pagekeeper.runtime.views import FAULT_REASON, FAULT_REASON_OF, TIER
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

LEVEL_MAX: Final = 3

Event = ev.TurnBegun | ev.PageAdmitted | ev.PagesPinned | ev.PagesUnpinned | ev.ImportanceSet
Decide = Callable[[Session], Event | None]


class Residency:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def begin_turn(self, caller: Caller, request: pb.BeginTurnRequest) -> pb.BeginTurnResponse:
        committed = await self._commit(caller, request, request.session_id, request.expected_revision, _turn_begun)
        return pb.BeginTurnResponse(revision=committed.revision, turn=committed.session.turn)

    async def pin(self, caller: Caller, request: pb.PinPagesRequest) -> pb.PinPagesResponse:
        def decide(session: Session) -> ev.PagesPinned | None:
            return decisions.pin(session, request.page_ids)

        committed = await self._commit(caller, request, request.session_id, request.expected_revision, decide)
        return pb.PinPagesResponse(revision=committed.revision)

    async def unpin(self, caller: Caller, request: pb.UnpinPagesRequest) -> pb.UnpinPagesResponse:
        def decide(session: Session) -> ev.PagesUnpinned | None:
            return decisions.unpin(session, request.page_ids)

        committed = await self._commit(caller, request, request.session_id, request.expected_revision, decide)
        return pb.UnpinPagesResponse(revision=committed.revision)

    async def set_importance(self, caller: Caller, request: pb.SetImportanceRequest) -> pb.SetImportanceResponse:
        if not 0 <= request.importance <= 1:
            raise InvalidField("importance", f"must be 0 to 1, not {request.importance}")

        def decide(session: Session) -> ev.ImportanceSet:
            return ev.ImportanceSet(decisions.known_page(session, request.page_id).page_id, request.importance)

        committed = await self._commit(caller, request, request.session_id, request.expected_revision, decide)
        return pb.SetImportanceResponse(revision=committed.revision)

    async def admit(self, caller: Caller, request: working_pb.AdmitRequest) -> working_pb.AdmitResponse:
        """Bring a page in. Nothing is appended when it is resident at that fidelity already."""
        if request.target_level > LEVEL_MAX:
            raise InvalidField("target_level", f"must be 0 to {LEVEL_MAX}, not {request.target_level}")
        key = session_key(caller.tenant, request.session_id)
        reason = FAULT_REASON_OF.get(request.reason, FaultReason.RESOLVE_REFERENCE)
        await self._sessions.read_existing(key, min_revision=request.min_revision)
        source = StorageTier.L0

        def decide(session: Session) -> ev.PageAdmitted | None:
            nonlocal source
            decisions.writable(session, key.session)
            source = session.tier(decisions.known_page(session, request.page_id))
            return decisions.admit(
                session, request.page_id, request.target_level, reason, prefetched=request.prefetched
            )

        committed = await self._sessions.commit(key, request_of(request), decide)
        return _admitted(committed, request.page_id, reason, source)

    async def _commit(
        self, caller: Caller, request: Mutation, session_id: str, expected_revision: int, decide: Decide
    ) -> Committed:
        key = session_key(caller.tenant, session_id)

        def decide_if_writable(session: Session) -> Event | None:
            decisions.writable(session, key.session, expected_revision)
            return decide(session)

        return await self._sessions.commit(key, request_of(request), decide_if_writable)


def _turn_begun(_: Session) -> ev.TurnBegun:
    return ev.TurnBegun()


def _admitted(committed: Committed, page_id: str, reason: FaultReason, source: StorageTier) -> working_pb.AdmitResponse:
    """What it did. A repeated request is told where the page is now; what making room cost is not told twice."""
    session = committed.session
    decisions.readable(session, "")
    page = decisions.known_page(session, page_id)
    resident = session.working_set.get(page_id)
    promoted = committed.revision > committed.previous_revision or committed.repeated
    representation = page.current.full if resident is None else page.current.at(resident.level)
    outcome = pb.FaultOutcome(
        page_id=page_id,
        reason=FAULT_REASON[reason],
        source_tier=TIER[page.stored_tier if committed.repeated else source],
        level=resident.level if resident else 0,
        size_tokens=representation.size_tokens if representation else 0,
        promoted=promoted,
        happenings=[happening_message(happening) for happening in committed.happenings],
        version=page.current_version,
    )
    return working_pb.AdmitResponse(
        revision=committed.revision, previous_revision=committed.previous_revision, outcome=outcome
    )
