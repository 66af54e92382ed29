"""Forks: a new session that begins as another one was, without a copy of any page.

All bytes of the parent are in the object store before the fork refers to them. Parent and fork then share immutable
objects alone, so neither sees changes of the other.
"""

import asyncio
from dataclasses import replace

from pagekeeper.core import decisions
from pagekeeper.core.bookkeeping import SessionState
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.session import Session
from pagekeeper.page_table.configuration import labels_of
from pagekeeper.page_table.snapshots import packed_state
from pagekeeper.page_table.write_back import WriteBack
from pagekeeper.runtime import codec
from pagekeeper.runtime.artifacts import ArtifactPort
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.history import History
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id, request_of
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import session_message
from pagekeeper.v1 import memory_service_pb2 as pb


class Forks:
    def __init__(
        self, sessions: Sessions, history: History, artifacts: ArtifactPort, write_back: WriteBack, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._history = history
        self._artifacts = artifacts
        self._write_back = write_back
        self._clock = clock

    async def fork_session(self, caller: Caller, request: pb.ForkSessionRequest) -> pb.ForkSessionResponse:
        parent = session_key(caller.tenant, request.session_id)
        key = session_key(caller.tenant, request.new_session_id or derived_id("s", request.request_id, 0))
        done_once = request_of(request)
        carried_out = await self._sessions.carried_out(key, done_once, strict=True)
        session = await self._sessions.read(key)
        if not carried_out:
            decisions.absent(session, key.session)
            seed = await self._seed(caller, parent, request)
            state = await asyncio.to_thread(codec.encode_state, seed)
            packed = await packed_state(self._artifacts, caller, key, state)
            session = (await self._sessions.create_from_snapshot(key, done_once, packed)).session
        decisions.readable(session, key.session)
        return pb.ForkSessionResponse(session=session_message(session, key.session, self._clock.now_ms()))

    async def _seed(self, caller: Caller, parent: SessionKey, request: pb.ForkSessionRequest) -> Session:
        """The parent's state as the fork's own. Raises SessionNotFound, RevisionNotFound."""
        flushed = await self._write_back.flush_session(caller, pb.FlushSessionRequest(session_id=parent.session))
        if request.at_revision:
            seed = decisions.readable(await self._history.at_revision(parent, request.at_revision), parent.session)
        else:
            now = await self._sessions.read_existing(parent, min_revision=flushed.revision)
            seed = await asyncio.to_thread(codec.decode_state, codec.encode_state(now), now.revision)
        current = await self._sessions.read_existing(parent, min_revision=flushed.revision)
        _place(seed, current)
        seed.parent_session_id, seed.parent_revision = parent.session, seed.revision
        seed.labels = labels_of(request.labels)
        seed.state = SessionState.OPEN
        seed.created_unix_ms = seed.updated_unix_ms = self._clock.now_ms()
        seed.operations, seed.checkpoints, seed.archive, seed.recent_evictions = {}, {}, [], {}
        return seed


def _place(seed: Session, current: Session) -> None:
    """Where the parent's bytes lie now: a state of the past names the log, which they have left since."""
    for page in list(seed.pages.dirty()):
        placed = page
        for version, now in zip(page.versions, current.pages[page.page_id].versions, strict=False):
            representations = [
                replace(one, inline=None, extent=there.extent)
                if one.dirty and (there := now.at(one.level)) is not None and there.extent is not None
                else one
                for one in version.representations
            ]
            placed = placed.with_representations(version.version, representations)
        seed.pages.put(placed)
