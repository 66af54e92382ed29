"""A connection to the gateway.

Calls have a deadline, and are repeated with the same request id while the gateway is UNAVAILABLE: an operation is
carried out once however often it is sent.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from uuid import uuid4

from pagekeeper.client.api import MemoryService
from pagekeeper.client.requests import made
from pagekeeper.client.session import Session
from pagekeeper.client.stack_memory import StackMemory
from pagekeeper.core.ids import TenantId
from pagekeeper.runtime.clock import Clock, SystemClock
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.peers import open_peers
from pagekeeper.runtime.rpc.remote import Manner, remote
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

CALL_SECONDS: Final = 30.0
"""How long a call may take, repetitions included, unless `connect` is told otherwise."""

ATTEMPTS_MAX: Final = 1_000
"""The deadline alone ends the repetitions: a gateway that is started again is back within seconds."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """The caller's own token, the same for every call."""

    token: str

    def authorization(self, _: Caller) -> str:
        return f"Bearer {self.token}"

    def __repr__(self) -> str:
        return "BearerToken(...)"


class Pagekeeper:
    """The public API. `api` has every RPC; the methods here are the comfortable ones."""

    def __init__(self, api: MemoryService, clock: Clock, call_seconds: float) -> None:
        self.api = api
        self._clock = clock
        self._call_seconds = call_seconds

    def caller(self) -> Caller:
        """For one call: from now on its deadline runs. The gateway takes the tenant from the token, not from here."""
        return Caller(
            tenant=TenantId("-"),
            subject="",
            deadline=self._clock.monotonic() + self._call_seconds,
            trace=uuid4().hex,
        )

    async def open_session(
        self,
        session_id: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        **config: Any,  # noqa: ANN401 - the fields of SessionConfig, which checks them
    ) -> Session:
        """Open a session. `config` are fields of SessionConfig, such as `max_l0_tokens=16_000`; see session.proto.

        Raises SessionExists, InvalidField.
        """
        request = made(
            pb.OpenSessionRequest,
            request_id=new_request_id(),
            session_id=session_id,
            config=made(session_pb2.SessionConfig, **config),
            labels=labels or {},
        )
        opened = await self.api.open_session(self.caller(), request)
        return self.session(opened.session.session_id, revision=opened.session.revision)

    def session(self, session_id: str, *, revision: int = 0) -> Session:
        """A session that exists. Nothing is asked of the server; reads will be at least as new as `revision`."""
        return Session(self, session_id, revision)

    def session_memory(self, session_id: str, config: Mapping[str, Any]) -> StackMemory:
        """The memory of a `SessionManager`; `config` are fields of SessionConfig, for a session that is new."""
        return StackMemory(self, session_id, config)

    async def list_sessions(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[session_pb2.Session]:
        """The tenant's sessions by id, those that carry `labels`."""
        page_token = ""
        while True:
            request = made(pb.ListSessionsRequest, page_token=page_token, labels=labels or {})
            response = await self.api.list_sessions(self.caller(), request)
            for session in response.sessions:
                yield session
            page_token = response.next_page_token
            if not page_token:
                return


def new_request_id() -> str:
    return uuid4().hex


@asynccontextmanager
async def connect(
    address: str, token: str, *, call_seconds: float = CALL_SECONDS, ca: Path | None = None
) -> AsyncIterator[Pagekeeper]:
    """Connect to the gateway at `address` with a bearer token. Calls take at most `call_seconds`.

    `address` is `host:port`, or several with commas between; a name stands for all addresses that it has. With several,
    a session's calls go to one gateway while that one serves, and to another when it hangs or is gone.
    `ca` is a file of the authorities, in PEM, one of which has signed the gateway's certificate; without it there is no
    TLS. Raises ValueError for what is no address, CannotStart for a file without certificates.
    """
    clock = SystemClock()
    manner = Manner(ATTEMPTS_MAX, call_seconds, names_session=True)
    async with open_peers(address, clock, ca=ca) as peers:
        service = pb.DESCRIPTOR.services_by_name["MemoryService"]
        api = remote(service, peers, BearerToken(token), clock, Random(), manner)
        yield Pagekeeper(cast(MemoryService, api), clock, call_seconds)
