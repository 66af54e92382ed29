"""Named revisions of a session."""

from itertools import takewhile
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.ids import check_id, session_key
from pagekeeper.core.session import Session
from pagekeeper.page_table.page_tokens import index_in, page_token
from pagekeeper.runtime import limits
from pagekeeper.runtime.history import History, state_after
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.listing import ListRoom
from pagekeeper.runtime.requests import derived_id, request_of
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import checkpoint_message
from pagekeeper.v1 import memory_service_pb2 as pb

_LIST: Final = "checkpoints"


class Checkpoints:
    def __init__(self, sessions: Sessions, history: History) -> None:
        self._sessions = sessions
        self._history = history

    async def create_checkpoint(
        self, caller: Caller, request: pb.CreateCheckpointRequest
    ) -> pb.CreateCheckpointResponse:
        """Raises SessionNotFound, SessionClosed, CheckpointExists, StoreUnavailable and as `Sessions.commit` does."""
        key = session_key(caller.tenant, request.session_id)
        checkpoint_id = check_id("checkpoint_id", request.checkpoint_id or derived_id("c", request.request_id, 0))

        def decide(session: Session) -> ev.CheckpointCreated:
            decisions.writable(session, key.session, request.expected_revision)
            return decisions.create_checkpoint(session, checkpoint_id, request.name)

        committed = await self._sessions.commit(key, request_of(request), decide)
        session = decisions.readable(committed.session, key.session)
        checkpoint = session.checkpoints.get(checkpoint_id)
        if checkpoint is None or checkpoint.revision >= committed.revision:
            # A repeated request, and the checkpoint has been deleted since: what has the id now is another checkpoint.
            then = await state_after(self._history, key, committed)
            checkpoint = then.checkpoints[checkpoint_id]
        return pb.CreateCheckpointResponse(revision=committed.revision, checkpoint=checkpoint_message(checkpoint))

    async def list_checkpoints(self, caller: Caller, request: pb.ListCheckpointsRequest) -> pb.ListCheckpointsResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        room = ListRoom(limits.number_asked(request, "page_size"))
        # Each names a later revision than the one before, so its revision is its place whatever is deleted meanwhile.
        after = index_in(_LIST, request.page_token) if request.page_token else -1
        rest = [checkpoint for checkpoint in session.checkpoints.values() if checkpoint.revision > after]
        listed = list(takewhile(room.takes, map(checkpoint_message, rest)))
        return pb.ListCheckpointsResponse(
            checkpoints=listed,
            next_page_token=page_token(_LIST, str(listed[-1].revision)) if len(rest) > len(listed) else "",
        )

    async def get_checkpoint(self, caller: Caller, request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        checkpoint = decisions.known_checkpoint(session, request.checkpoint_id)
        return pb.GetCheckpointResponse(checkpoint=checkpoint_message(checkpoint))

    async def delete_checkpoint(
        self, caller: Caller, request: pb.DeleteCheckpointRequest
    ) -> pb.DeleteCheckpointResponse:
        key = session_key(caller.tenant, request.session_id)

        def decide(session: Session) -> ev.CheckpointDeleted:
            decisions.writable(session, key.session, request.expected_revision)
            return decisions.delete_checkpoint(session, request.checkpoint_id)

        committed = await self._sessions.commit(key, request_of(request), decide)
        return pb.DeleteCheckpointResponse(revision=committed.revision)
