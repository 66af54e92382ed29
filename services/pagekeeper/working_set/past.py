"""The working set at another time: a fold that stops early, compared, restored or replayed."""

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import RecordedEffect, decisions_digest
from pagekeeper.core.errors import InvalidField, RevisionNotFound
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.offering import SaidPlaces
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.history import History, state_after
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.listing import fitting
from pagekeeper.runtime.requests import request_of
from pagekeeper.runtime.sessions import Read, Sessions
from pagekeeper.runtime.views import page_totals, resident_message, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2


class Past:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history

    async def context_at(self, caller: Caller, request: pb.GetContextAtRequest) -> pb.GetContextAtResponse:
        key = session_key(caller.tenant, request.session_id)
        match request.WhichOneof("at"):
            case "turn":
                then = await self._at_turn(key, request, request.turn)
            case "revision":
                then = await self._at_revision(key, request, request.revision)
            case _:
                raise InvalidField("at", "must be a turn or a revision")
        stats = stats_message(then, page_totals(then))
        pages = _residents(then)
        listed = fitting(pages[request.skip :])
        return pb.GetContextAtResponse(
            revision=then.revision,
            turn=then.turn,
            pages=listed,
            stats=stats,
            pages_left_out=max(0, len(pages) - request.skip - len(listed)),
        )

    async def diff_context(self, caller: Caller, request: pb.DiffContextRequest) -> pb.DiffContextResponse:
        key = session_key(caller.tenant, request.session_id)
        match request.WhichOneof("from"):
            case "from_turn":
                before = await self._at_turn(key, request, request.from_turn)
            case "from_revision":
                before = await self._at_revision(key, request, request.from_revision)
            case _:
                raise InvalidField("from", "must be a turn or a revision")
        # The session moves on while the second one is folded, so what is needed of the first is kept.
        from_revision = before.revision
        pages_before = {page.page_id: page for page in _residents(before)}
        match request.WhichOneof("to"):
            case "to_turn":
                after = await self._at_turn(key, request, request.to_turn)
            case "to_revision":
                after = await self._at_revision(key, request, request.to_revision)
            case _:
                raise InvalidField("to", "must be a turn or a revision")
        pages_after = {page.page_id: page for page in _residents(after)}
        response = pb.DiffContextResponse(from_revision=from_revision, to_revision=after.revision)
        entered = [page for page_id, page in pages_after.items() if page_id not in pages_before]
        left = [page for page_id, page in pages_before.items() if page_id not in pages_after]
        changed = [page for page in pages_after.values() if _is_other(pages_before.get(page.page_id), page)]
        lists = (response.entered, response.left, response.changed)
        different = [(to, page) for to, pages in zip(lists, (entered, left, changed), strict=True) for page in pages]
        listed = fitting([page for _, page in different[request.skip :]])
        for (to, _), page in zip(different[request.skip :], listed, strict=False):
            to.append(page)
        response.pages_left_out = max(0, len(different) - request.skip - len(listed))
        return response

    async def restore(self, caller: Caller, request: pb.RestoreCheckpointRequest) -> pb.RestoreCheckpointResponse:
        """Raises SessionNotFound, SessionClosed, CheckpointNotFound, RevisionNotFound, RevisionConflict."""
        key = session_key(caller.tenant, request.session_id)
        known = request_of(request)
        session = await self._sessions.read_existing(key, strict=True)
        if not await self._sessions.carried_out(key, known):
            decisions.writable(session, key.session, request.expected_revision)
            then = await self._history.at_revision(key, _target_revision(session, request))
            event = decisions.restore(then, request.checkpoint_id)
        else:
            event = None

        def decide(now: Session) -> ev.WorkingSetRestored | None:
            decisions.writable(now, key.session, request.expected_revision)
            if event is not None and _target_revision(now, request) != event.revision:
                # Forgotten, and given to another revision meanwhile.
                raise RevisionNotFound(f"checkpoint {request.checkpoint_id!r} at {event.revision}", now.revision)
            return event

        committed = await self._sessions.commit(key, known, decide, touches=None)
        restored = await state_after(self._history, key, committed)
        pages = _residents(restored)
        listed = fitting(pages)
        return pb.RestoreCheckpointResponse(
            revision=committed.revision,
            page_count=restored.pages.mapped_total,
            resident=listed,
            resident_left_out=len(pages) - len(listed),
        )

    async def replay_session(self, caller: Caller, request: pb.ReplaySessionRequest) -> pb.ReplaySessionResponse:
        """Fold again up to the revision asked for, and on to what is served, which must be the same.

        Raises SessionNotFound, RevisionNotFound.
        """
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, min_revision=request.min_revision, strict=True)
        served_revision, served_digest = session.revision, codec.state_digest(session)
        to_revision = request.to_revision or served_revision
        response = pb.ReplaySessionResponse()
        effects: list[RecordedEffect] = []
        async for step in self._history.steps(key):
            if step.revision <= to_revision:
                effects += step.effects
                response.transactions += step.transaction is not None
            if step.revision == to_revision:
                response.revision = to_revision
                response.state_digest = codec.state_digest(step.session)
            if step.revision == served_revision:
                response.matches_served_state = codec.state_digest(step.session) == served_digest
                break
        if response.revision != to_revision:
            raise RevisionNotFound(f"revision {to_revision}", served_revision)
        response.decisions = len(effects)
        response.decisions_digest = decisions_digest(effects)
        return response

    async def _at_revision(self, key: SessionKey, request: Read, revision: int) -> Session:
        session = await self._sessions.read_for(key, request)
        return session if session.revision == revision else await self._history.at_revision(key, revision)

    async def _at_turn(self, key: SessionKey, request: Read, turn: int) -> Session:
        """The end of the current turn is now."""
        session = await self._sessions.read_for(key, request)
        return session if session.turn == turn else await self._history.at_turn(key, turn)


def _target_revision(session: Session, request: pb.RestoreCheckpointRequest) -> int:
    """Return the revision to go back to. Raises CheckpointNotFound."""
    match request.WhichOneof("target"):
        case "checkpoint_id":
            return decisions.known_checkpoint(session, request.checkpoint_id).revision
        case "revision":
            return request.revision
        case _:
            raise InvalidField("target", "must be a checkpoint or a revision")


def _residents(session: Session) -> list[session_pb2.ResidentPage]:
    places = SaidPlaces()
    places.keep_up(session, None)
    return [resident_message(session, resident) for resident in places.in_order(session)]


def _is_other(before: session_pb2.ResidentPage | None, page: session_pb2.ResidentPage) -> bool:
    return before is not None and (before.level, before.version) != (page.level, page.version)
