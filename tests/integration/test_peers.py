"""A caller of several replicas sends a session's calls to one of them, and passes over those that do not answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pagekeeper.core.errors import ServiceUnavailable
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.health import Need
from pagekeeper.runtime.rpc.peers import PROBE_SECONDS, SLOW_SECONDS, SWEEP_SECONDS, Peers, open_peers
from pagekeeper.runtime.rpc.remote import remote
from pagekeeper.runtime.rpc.server import RpcServer
from pagekeeper.v1.artifact_storage_service_pb2 import BlobRef, GetBlobsRequest, PutBlobsRequest
from pagekeeper.v1.memory_service_pb2 import FaultPageRequest, StreamFaultRequest
from pagekeeper.v1.page_pb2 import Extent
from tests.integration.rpc_services import FAULTS, STORAGE, Faults, Storage, Surroundings
from tests.servers import Proxy, eventually

SESSIONS = [f"s{number}" for number in range(40)]
READ = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="acme/segment", length=1))])


def test_one_that_hangs_costs_less_than_two_seconds() -> None:
    assert SLOW_SECONDS + SWEEP_SECONDS + PROBE_SECONDS < 2


class Replica:
    """A server of two services that remembers who called, and a network before it that a test can break."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.storage = Storage()
        self.faults = Faults()
        self.met = True
        needs = (Need("log", self._check),)
        self.server: RpcServer = surroundings.server({STORAGE: self.storage, FAULTS: self.faults}, needs=needs)
        self.network = Proxy(self.server.port)

    async def _check(self) -> None:
        if not self.met:
            raise ServiceUnavailable("away")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.network.port}"

    def hang(self) -> None:
        self.network.drop_answers = self.network.drop_questions = True


class Replicas:
    """Some of them, and a name whose addresses a test changes."""

    def __init__(self, surroundings: Surroundings, exits: AsyncExitStack) -> None:
        self.surroundings = surroundings
        self.exits = exits
        self.by_port: dict[int, Replica] = {}
        self.dns_fails = False

    async def start(self) -> Replica:
        replica = Replica(self.surroundings)
        await self.exits.enter_async_context(replica.server)
        await self.exits.enter_async_context(replica.network.listening())
        watch = asyncio.ensure_future(replica.server.watch_needs())
        self.exits.callback(watch.cancel)
        self.by_port[replica.network.port] = replica
        return replica

    @property
    def addresses(self) -> str:
        return ",".join(replica.address for replica in self.by_port.values())

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[tuple[Peers, Any, Any]]:
        """Proxies of both services, through a list of the addresses."""
        surroundings = self.surroundings
        async with open_peers(self.addresses, surroundings.clock) as peers:
            await all_serve(peers, len(self.by_port))
            make = [remote(one, peers, surroundings.tokens, surroundings.clock, Random(3)) for one in (STORAGE, FAULTS)]
            yield peers, make[0], make[1]

    def homes(self) -> dict[str, set[int]]:
        """Which replicas have heard of which session."""
        return {
            session: {port for port, replica in self.by_port.items() if session in replica.faults.sessions}
            for session in SESSIONS
        }


async def all_serve(peers: Peers, count: int) -> None:
    async def so() -> bool:
        return len({peers.choose(f"acme/{session}") for session in range(200)}) == count

    await eventually(so)


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as exits:
        replicas = Replicas(Surroundings(tmp_path), exits)
        for _ in range(3):
            await replicas.start()
        yield replicas


def fault(session: str, request_id: str = "r") -> FaultPageRequest:
    return FaultPageRequest(session_id=session, request_id=request_id)


async def call_all(replicas: Replicas, faults: Any) -> None:  # noqa: ANN401 - a proxy
    caller = replicas.surroundings.caller(seconds=20)
    await asyncio.gather(*(faults.fault(caller, fault(session)) for session in SESSIONS))


async def test_a_session_has_one_home_and_sessions_have_many(replicas: Replicas) -> None:
    async with replicas.calling() as (_, storage, faults):
        for _ in range(3):
            await call_all(replicas, faults)
        homes = replicas.homes()
        assert {len(ports) for ports in homes.values()} == {1}
        assert len({next(iter(ports)) for ports in homes.values()}) == 3
        # Another caller finds the same homes.
        async with replicas.calling() as (_, _, others):
            await call_all(replicas, others)
        assert replicas.homes() == homes
        # What is about no session is shared out.
        for _ in range(12):
            await storage.get_blobs(replicas.surroundings.caller(), READ)
        assert Counter(len(replica.storage.callers) for replica in replicas.by_port.values()) == {4: 3}


async def test_one_that_hangs_costs_one_slow_call_and_no_error(replicas: Replicas) -> None:
    async with replicas.calling() as (_, _, faults):
        await call_all(replicas, faults)
        before = replicas.homes()
        hung = next(iter(replicas.by_port.values()))
        hung.hang()
        await call_all(replicas, faults)
        moved = {session for session, ports in before.items() if hung.network.port in ports}
        assert moved
        heard = len(hung.faults.callers)
        # By now it is known, and nobody waits for it.
        await call_all(replicas, faults)
        assert len(hung.faults.callers) == heard
        # Those of the others stayed; those of the one that hangs have another home.
        for session, ports in replicas.homes().items():
            assert (len(ports) == 2) == (session in moved)


async def test_one_that_goes_on_gets_its_sessions_back(replicas: Replicas) -> None:
    async with replicas.calling() as (peers, _, faults):
        await call_all(replicas, faults)
        homes = {session: peers.choose(f"acme/{session}") for session in SESSIONS}
        hung = next(iter(replicas.by_port.values()))
        hung.hang()
        await call_all(replicas, faults)
        assert {session: peers.choose(f"acme/{session}") for session in SESSIONS} != homes
        hung.network.drop_answers = hung.network.drop_questions = False
        hung.network.cut()
        await all_serve(peers, 3)
        assert {session: peers.choose(f"acme/{session}") for session in SESSIONS} == homes


async def test_a_slow_call_to_one_that_lives_is_waited_for(replicas: Replicas) -> None:
    async def think(_: Caller) -> None:
        await asyncio.sleep(4 * (SLOW_SECONDS + SWEEP_SECONDS + PROBE_SECONDS))

    for replica in replicas.by_port.values():
        replica.faults.behave = think
    async with replicas.calling() as (_, _, faults):
        await faults.fault(replicas.surroundings.caller(), fault("s1"))
    assert sum(len(replica.faults.callers) for replica in replicas.by_port.values()) == 1


async def test_what_may_not_be_done_twice_is_not_sent_twice(replicas: Replicas) -> None:
    async with replicas.calling() as (peers, _, faults):
        port = int(peers.choose("acme/s1").endpoint.name.rpartition(":")[2])
        # It gets the call, and its answer is lost.
        replicas.by_port[port].network.drop_answers = True
        with pytest.raises(ServiceUnavailable):
            await faults.fault(replicas.surroundings.caller(seconds=20), fault("s1", request_id=""))
        assert sum(len(replica.faults.callers) for replica in replicas.by_port.values()) == 1


async def test_a_stream_begins_elsewhere_and_is_not_spliced(replicas: Replicas) -> None:
    async def for_ever(_: Caller) -> None:
        await asyncio.Event().wait()

    request = StreamFaultRequest(fault=FaultPageRequest(session_id="s1", request_id="r", min_revision=3))
    async with replicas.calling() as (peers, _, faults):
        home = replicas.by_port[int(peers.choose("acme/s1").endpoint.name.rpartition(":")[2])]
        home.hang()
        caller = replicas.surroundings.caller(seconds=20)
        assert [part.page.revision async for part in faults.stream_fault(caller, request)] == [0, 1, 2]
        # In the middle of a stream there is no other one to turn to.
        new_home = replicas.by_port[int(peers.choose("acme/s1").endpoint.name.rpartition(":")[2])]
        assert new_home is not home
        new_home.faults.behave = for_ever
        parts = faults.stream_fault(caller, request)
        assert [(await anext(parts)).page.revision for _ in range(3)] == [0, 1, 2]
        new_home.hang()
        with pytest.raises(ServiceUnavailable):
            await anext(parts)


async def test_one_that_says_it_is_not_ready_gets_nothing_new(replicas: Replicas) -> None:
    async with replicas.calling() as (peers, _, faults):
        home = replicas.by_port[int(peers.choose("acme/s1").endpoint.name.rpartition(":")[2])]

        async def refuse(_: Caller) -> None:
            raise ServiceUnavailable("the log does not answer")

        home.faults.behave, home.met = refuse, False
        caller = replicas.surroundings.caller(seconds=20)

        async def answered() -> bool:
            try:
                await faults.fault(caller, fault("s1"))
            except ServiceUnavailable:
                return False
            return True

        await eventually(answered)
        assert peers.choose("acme/s1").endpoint.name != home.address
        # Where all say so, they are asked all the same.
        for replica in replicas.by_port.values():
            replica.met = False
            replica.faults.behave = refuse
        with pytest.raises(ServiceUnavailable, match="the log does not answer"):
            await faults.fault(caller, fault("s1"))


async def test_one_that_is_killed_fails_no_call(replicas: Replicas) -> None:
    async with replicas.calling() as (_, _, faults):
        stop = asyncio.Event()
        calls = 0

        async def keep_calling(session: str) -> None:
            nonlocal calls
            while not stop.is_set():
                await faults.fault(replicas.surroundings.caller(seconds=20), fault(session))
                calls += 1

        async with asyncio.TaskGroup() as group:
            for session in SESSIONS[:12]:
                group.create_task(keep_calling(session))
            victim = next(iter(replicas.by_port.values()))
            while calls < 50:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            await victim.server.__aexit__(None, None, None)
            victim.network.cut()
            goal = calls + 200
            while calls < goal:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            stop.set()


async def test_a_name_is_asked_for_again(replicas: Replicas) -> None:
    surroundings = replicas.surroundings
    ports = list(replicas.by_port)
    known = [ports[0]]

    # Addresses of a name share a port, so each replica is put behind an address of its own.
    async with AsyncExitStack() as exits:
        shared = 0
        for number, replica in enumerate(replicas.by_port.values()):
            listener = await asyncio.start_server(replica.network.serve, f"127.0.0.{1 + number}", shared)
            shared = listener.sockets[0].getsockname()[1]
            exits.push_async_callback(listener.wait_closed)
            exits.callback(listener.close)

        async def resolve(host: str, port: int) -> list[str]:
            assert (host, port) == ("service", shared)
            if replicas.dns_fails:
                raise OSError("no such name")
            return [f"127.0.0.{1 + ports.index(one)}" for one in known]

        peers = await exits.enter_async_context(open_peers(f"service:{shared}", surroundings.clock, resolve=resolve))
        faults = remote(FAULTS, peers, surroundings.tokens, surroundings.clock, Random(3))
        await call_all(replicas, faults)
        assert set.union(*replicas.homes().values()) == {ports[0]}
        known[:] = ports
        await all_serve(peers, 3)
        await call_all(replicas, faults)
        assert set.union(*replicas.homes().values()) == set(ports)
        # Who does not answer about names takes nobody away.
        replicas.dns_fails = True
        await asyncio.sleep(2.5)
        await all_serve(peers, 3)
        replicas.dns_fails = False
        known[:] = ports[1:]
        await all_serve(peers, 2)
        assert "127.0.0.1" not in {peers.choose(f"acme/{session}").endpoint.host for session in SESSIONS}


async def test_without_an_address_a_call_says_so(tmp_path: Path) -> None:
    surroundings = Surroundings(tmp_path)

    async def resolve(_: str, __: int) -> list[str]:
        raise OSError("no such name")

    async with open_peers("nowhere:7400", surroundings.clock, warm_up_seconds=0.1, resolve=resolve) as peers:
        storage = remote(STORAGE, peers, surroundings.tokens, surroundings.clock, Random(3))
        with pytest.raises(ServiceUnavailable, match="nowhere:7400"):
            await storage.put_blobs(surroundings.caller(seconds=5), PutBlobsRequest(session_id="s1", blobs=[b"x"]))
        with pytest.raises(ServiceUnavailable, match="nowhere:7400"):
            await peers.check()
