"""The working set at another time: a fold that stops early, compared, restored or replayed."""

from pagekeeper.memory import decisions
from pagekeeper.memory import events as ev
from pagekeeper.memory.errors import RevisionNotFound
from pagekeeper.memory.happenings import Happening, decisions_digest
from pagekeeper.memory.ids import SessionKey, session_key
from pagekeeper.memory.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.history import History
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import request_of
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import resident_message, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2


class Past:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history

    async def context_at(self, caller: Caller, request: pb.GetContextAtRequest) -> pb.GetContextAtResponse:
        key = await self._existing(caller, request.session_id)
        if request.WhichOneof("at") == "turn":
            then = await self._history.at_turn(key, request.turn)
        else:
            then = await self._history.at_revision(key, request.revision)
        return pb.GetContextAtResponse(
            revision=then.revision, turn=then.turn, pages=_residents(then), stats=stats_message(then)
        )

    async def diff_context(self, caller: Caller, request: pb.DiffContextRequest) -> pb.DiffContextResponse:
        key = await self._existing(caller, request.session_id)
        if request.WhichOneof("from") == "from_turn":
            before = await self._history.at_turn(key, request.from_turn)
        else:
            before = await self._history.at_revision(key, request.from_revision)
        if request.WhichOneof("to") == "to_turn":
            after = await self._history.at_turn(key, request.to_turn)
        else:
            after = await self._history.at_revision(key, request.to_revision)
        return pb.DiffContextResponse(
            from_revision=before.revision,
            to_revision=after.revision,
            entered=[page for page in _residents(after) if page.page_id not in before.working_set],
            left=[page for page in _residents(before) if page.page_id not in after.working_set],
            changed=[page for page in _residents(after) if _is_other(before, page)],
        )

    async def restore(self, caller: Caller, request: pb.RestoreCheckpointRequest) -> pb.RestoreCheckpointResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, strict=True)
        known = request_of(request)
        if decisions.earlier_operation(session, known.operation_id, known.digest) is None:
            decisions.writable(session, key.session, request.expected_revision)
            event = await self._restored(key, session, request)
        else:
            event = None

        def decide(now: Session) -> ev.WorkingSetRestored | None:
            decisions.writable(now, key.session, request.expected_revision)
            return event

        committed = await self._sessions.commit(key, known, decide, touches=None)
        return pb.RestoreCheckpointResponse(
            revision=committed.revision,
            page_count=sum(1 for _ in committed.session.mapped_pages()),
            resident=_residents(committed.session),
        )

    async def _restored(
        self, key: SessionKey, session: Session, request: pb.RestoreCheckpointRequest
    ) -> ev.WorkingSetRestored:
        if request.WhichOneof("target") == "checkpoint_id":
            checkpoint = decisions.known_checkpoint(session, request.checkpoint_id)
            then = await self._history.at_revision(key, checkpoint.revision)
            return decisions.restore(then, checkpoint.checkpoint_id)
        return decisions.restore(await self._history.at_revision(key, request.revision), "")

    async def replay_session(self, caller: Caller, request: pb.ReplaySessionRequest) -> pb.ReplaySessionResponse:
        key = await self._existing(caller, request.session_id)
        happenings: list[Happening] = []
        transactions = 0
        replayed = Session()
        async for step in self._history.steps(key):
            if request.to_revision and step.revision > request.to_revision:
                break
            replayed = step.session
            happenings += step.happenings
            transactions += step.transaction is not None
            if step.revision == request.to_revision:
                break
        if request.to_revision and replayed.revision != request.to_revision:
            raise RevisionNotFound(f"revision {request.to_revision}", replayed.revision)
        digest = codec.state_digest(replayed)
        served = await self._sessions.read(key)
        return pb.ReplaySessionResponse(
            revision=replayed.revision,
            transactions=transactions,
            decisions=len(happenings),
            decisions_digest=decisions_digest(happenings),
            state_digest=digest,
            matches_served_state=served.revision == replayed.revision and codec.state_digest(served) == digest,
        )

    async def _existing(self, caller: Caller, session_id: str) -> SessionKey:
        key = session_key(caller.tenant, session_id)
        await self._sessions.read_existing(key)
        return key


def _residents(session: Session) -> list[session_pb2.ResidentPage]:
    return [resident_message(session, resident) for resident in session.working_set]


def _is_other(before: Session, page: session_pb2.ResidentPage) -> bool:
    resident = before.working_set.get(page.page_id)
    return resident is not None and (resident.level, resident.version) != (page.level, page.version)
