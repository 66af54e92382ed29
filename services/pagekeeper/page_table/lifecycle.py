"""Sessions from their opening to their deletion."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, session_key
from pagekeeper.core.session import Session
from pagekeeper.page_table.configuration import changed_config, labels_of, opened_config
from pagekeeper.page_table.mapping import TokenizerOf, cost_of
from pagekeeper.page_table.page_tokens import page_token, position_in
from pagekeeper.runtime import limits
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.listing import ListRoom
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.requests import derived_id, request_of
from pagekeeper.runtime.session_records import from_log
from pagekeeper.runtime.sessions import Room, Sessions
from pagekeeper.runtime.views import session_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

EXAMINED_MAX: Final = 1_000
"""Sessions that one call looks at, whatever the labels leave of them."""
READS_AT_ONCE: Final = 16

_LIST: Final = "sessions"


class Lifecycle:
    def __init__(self, sessions: Sessions, log: SessionLog, tokenizer_of: TokenizerOf, clock: Clock) -> None:
        self._sessions = sessions
        self._log = log
        self._tokenizer_of = tokenizer_of
        self._clock = clock

    async def open_session(self, caller: Caller, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
        key = session_key(caller.tenant, request.session_id or derived_id("s", request.request_id, 0))
        config, labels = opened_config(request.config), labels_of(request.labels)

        def decide(session: Session) -> ev.SessionOpened:
            return decisions.open_session(session, key.session, config, labels)

        committed = await self._sessions.commit(key, request_of(request), decide)
        return pb.OpenSessionResponse(session=self._shown(key, committed.session))

    async def get_session(self, caller: Caller, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        return pb.GetSessionResponse(session=self._shown(key, session))

    async def list_sessions(self, caller: Caller, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        """A page may be shorter than asked for, and even empty, before the end: what was examined is bounded."""
        size = limits.number_asked(request, "page_size")
        after = position_in(_LIST, request.page_token)
        found: list[session_pb2.Session] = []
        room = ListRoom(size)
        for _ in range(EXAMINED_MAX // size + 1):
            ids = await from_log(self._log.sessions(caller.tenant, after=after, limit=size))
            keys = [SessionKey(caller.tenant, session_id) for session_id in ids]
            shown = await self._read_all(keys, strict=request.strict)
            for session_id, session in zip(ids, shown, strict=True):
                if session is not None and _has_labels(session.labels, request.labels):
                    if not room.takes(session):
                        return pb.ListSessionsResponse(sessions=found, next_page_token=page_token(_LIST, after))
                    found.append(session)
                after = session_id
                if len(found) == size:
                    return pb.ListSessionsResponse(sessions=found, next_page_token=page_token(_LIST, after))
            if len(ids) < size:
                return pb.ListSessionsResponse(sessions=found)
        return pb.ListSessionsResponse(sessions=found, next_page_token=page_token(_LIST, after))

    async def configure_session(
        self, caller: Caller, request: pb.ConfigureSessionRequest
    ) -> pb.ConfigureSessionResponse:
        key = session_key(caller.tenant, request.session_id)

        def decide(session: Session) -> ev.SessionConfigured | None:
            decisions.writable(session, key.session, request.expected_revision)
            config = changed_config(session.config, request.config)
            self._check_encoding(session, config)
            labels = labels_of(request.labels) if request.replace_labels else session.labels
            return decisions.configure(session, config, labels)

        committed = await self._sessions.commit(key, request_of(request), decide)
        session = decisions.readable(committed.session, key.session)
        happenings, left_out = cost_of(committed)
        shown = self._shown(key, session)
        return pb.ConfigureSessionResponse(session=shown, happenings=happenings, happenings_left_out=left_out)

    async def close_session(self, caller: Caller, request: pb.CloseSessionRequest) -> pb.CloseSessionResponse:
        key = session_key(caller.tenant, request.session_id)

        def decide(session: Session) -> ev.SessionClosed | None:
            return decisions.close(decisions.readable(session, key.session))

        committed = await self._sessions.commit(key, request_of(request), decide)
        session = decisions.readable(committed.session, key.session)
        return pb.CloseSessionResponse(session=self._shown(key, session))

    async def delete_session(self, caller: Caller, request: pb.DeleteSessionRequest) -> pb.DeleteSessionResponse:
        key = session_key(caller.tenant, request.session_id)

        def decide(session: Session) -> ev.SessionDeleted:
            decisions.readable(session, key.session)
            return ev.SessionDeleted()

        committed = await self._sessions.commit(key, request_of(request), decide, room=Room.TOMBSTONE)
        return pb.DeleteSessionResponse(revision=committed.revision)

    def _check_encoding(self, session: Session, config: ev.SessionConfig) -> None:
        """Pages are counted once, in the encoding of the session's model."""
        counted, wanted = self._tokenizer_of(session.config.model), self._tokenizer_of(config.model)
        if session.pages and counted.name != wanted.name:
            raise InvalidField(
                "config.model",
                f"must count tokens as {session.config.model!r} does ({counted.name}), because the pages are counted; "
                f"{config.model!r} counts as {wanted.name}. A prompt may be assembled for it all the same",
            )

    async def _read_all(self, keys: Sequence[SessionKey], *, strict: bool) -> list[session_pb2.Session | None]:
        """Return these sessions' facts; None for a deleted session."""
        shown: list[session_pb2.Session | None] = []
        for start in range(0, len(keys), READS_AT_ONCE):
            batch = keys[start : start + READS_AT_ONCE]
            shown += await asyncio.gather(*(self._read(key, strict=strict) for key in batch))
        return shown

    async def _read(self, key: SessionKey, *, strict: bool) -> session_pb2.Session | None:
        session = await self._sessions.read(key, strict=strict)
        return self._shown(key, session) if session.exists else None

    def _shown(self, key: SessionKey, session: Session) -> session_pb2.Session:
        return session_message(session, SessionId(key.session), self._clock.now_ms())


def _has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
