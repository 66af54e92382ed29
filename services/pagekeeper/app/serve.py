"""Running a service, or all of them in one process: settings in, a served port until the signal to stop.

The only place that names adapters: which log, which store, which clock, who is remote. A process imports the service
that it runs and no other: imports are most of what a start costs.
"""
# ruff: noqa: PLC0415

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor

from pagekeeper.app.descriptors import ARTIFACT_STORAGE, FAULT_HANDLER, MEMORY, PAGE_TABLE, WORKING_SET
from pagekeeper.runtime.artifacts import ArtifactBlobReader
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.bearer_tokens import InternalTokens, TokenVerifier
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.clock import Clock, SystemClock
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.pool import ProcessPool, open_pool
from pagekeeper.runtime.process import run
from pagekeeper.runtime.rpc.health import Need
from pagekeeper.runtime.rpc.peers import Peers, open_peers
from pagekeeper.runtime.rpc.remote import remote
from pagekeeper.runtime.rpc.server import Limits, Listening, RpcServer
from pagekeeper.runtime.rpc.tls import ServerTls
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.settings import (
    InternalKeySettings,
    ListenSettings,
    LogSettings,
    RecallSettings,
    Settings,
    StoreSettings,
    SummariserSettings,
    TokenSettings,
    load,
)
from pagekeeper.runtime.telemetry import start_logging
from pagekeeper.runtime.token_keys import KeyFile

_log: Final = logging.getLogger(__name__)


class AllSettings(ListenSettings, TokenSettings, LogSettings, StoreSettings, RecallSettings, SummariserSettings):
    """Settings of a process with all services, which needs no internal tokens."""


class _Process:
    """The means of every process: clocks, randomness, background work, and connections to other services."""

    def __init__(self, background: Background, exits: AsyncExitStack, clock: Clock, random: Random) -> None:
        self.background = background
        self.exits = exits
        self.clock = clock
        self.random = random

    async def remote(self, service: ServiceDescriptor, addresses: str, tokens: InternalTokens) -> Any:  # noqa: ANN401 - see `remote`
        return remote(service, await self.peers(addresses), tokens, self.clock, self.random)

    async def peers(self, addresses: str) -> Peers:
        opened = open_peers(addresses, self.clock, WARM_UP_SECONDS, ca=load(ListenSettings).tls_ca)
        return await self.exits.enter_async_context(opened)

    async def pool(self) -> ProcessPool:
        return await self.exits.enter_async_context(open_pool())

    def internal_tokens(self, settings: InternalKeySettings) -> InternalTokens:
        return InternalTokens(KeyFile(settings.internal_key, self.clock), self.clock)


WARM_UP_SECONDS: Final = 0.05
"""How long a process waits for the services that it calls. Services start side by side, so a process starts without the
others, too."""

CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A process: its settings, the services behind its port, who is let in, and what the process depends on."""

    settings: ListenSettings
    services: Mapping[ServiceDescriptor, object]
    verifier: TokenVerifier
    needs: Sequence[Need]


def _store_need(store: BlobStore, *, required: bool) -> Need:
    """Whether the object store answers; the object need not exist."""

    async def check() -> None:
        await store.stat("readiness", timeout_seconds=CHECK_SECONDS)

    return Need("object-store", check, required=required)


async def _all(process: _Process) -> Serving:
    from pagekeeper.app.bucket import open_store
    from pagekeeper.app.bus import open_bus
    from pagekeeper.app.compose import compose
    from pagekeeper.app.embedding import open_embedder
    from pagekeeper.artifact_storage import main as artifact_storage
    from pagekeeper.fault_handler import main as fault_handler

    settings = load(AllSettings)
    bus = await process.exits.enter_async_context(open_bus(settings, "all"))
    store = await process.exits.enter_async_context(open_store(settings))
    platform = compose(
        bus.log,
        bus.queue,
        artifact_storage.compose(store),
        open_embedder(settings),
        fault_handler.open_compression_runner(),
        fault_handler.open_summariser(settings),
        process.clock,
        await process.pool(),
        settings.index_bytes_max,
    )
    platform.start(process.background)
    verifier = TokenVerifier(KeyFile(settings.token_key, process.clock), settings.token_audience, process.clock)
    # Small appends go on without the object store: what is in the log can be served.
    needs = (bus.need, _store_need(store, required=False))
    return Serving(settings, {MEMORY: platform.gateway}, verifier, needs)


async def _gateway(process: _Process) -> Serving:
    from pagekeeper.gateway import main as gateway
    from pagekeeper.gateway.settings import GatewaySettings

    settings = load(GatewaySettings)
    tokens = process.internal_tokens(settings)

    def called(service: ServiceDescriptor, peers: Peers) -> Any:  # noqa: ANN401 - see `remote`
        return remote(service, peers, tokens, process.clock, process.random)

    tables, residents = await process.peers(settings.page_table), await process.peers(settings.working_set)
    faults, artifacts = await process.peers(settings.fault_handler), await process.peers(settings.artifact_storage)
    service = gateway.compose(
        called(PAGE_TABLE, tables),
        called(WORKING_SET, residents),
        called(FAULT_HANDLER, faults),
        called(ARTIFACT_STORAGE, artifacts),
        await process.pool(),
    )
    # Without the other two most calls are served: appends, prompts of what is in the log, reads of state.
    needs = (
        Need("page-table", tables.check),
        Need("working-set", residents.check),
        Need("fault-handler", faults.check, required=False),
        Need("artifact-storage", artifacts.check, required=False),
    )
    verifier = TokenVerifier(KeyFile(settings.token_key, process.clock), settings.token_audience, process.clock)
    return Serving(settings, {MEMORY: service}, verifier, needs)


async def _page_table(process: _Process) -> Serving:
    from pagekeeper.app.bus import open_bus
    from pagekeeper.app.embedding import open_embedder
    from pagekeeper.page_table import main as page_table
    from pagekeeper.page_table.settings import PageTableSettings

    settings = load(PageTableSettings)
    tokens = process.internal_tokens(settings)
    bus = await process.exits.enter_async_context(open_bus(settings, "page-table"))
    artifacts = await process.remote(ARTIFACT_STORAGE, settings.artifact_storage, tokens)
    blobs = ArtifactBlobReader(artifacts)
    sessions = Sessions(bus.log, blobs, process.clock)
    process.background.start("feed", sessions.follow_log)
    composed = page_table.compose(
        bus.log,
        bus.queue,
        sessions,
        blobs,
        artifacts,
        open_embedder(settings),
        process.clock,
        await process.pool(),
        settings.index_bytes_max,
    )
    composed.start(process.background)
    return Serving(settings, {PAGE_TABLE: composed.service}, tokens.verifier(), (bus.need,))


async def _working_set(process: _Process) -> Serving:
    from pagekeeper.app.bus import open_bus
    from pagekeeper.working_set import main as working_set
    from pagekeeper.working_set.settings import WorkingSetSettings

    settings = load(WorkingSetSettings)
    tokens = process.internal_tokens(settings)
    bus = await process.exits.enter_async_context(open_bus(settings, "working-set"))
    blobs = ArtifactBlobReader(await process.remote(ARTIFACT_STORAGE, settings.artifact_storage, tokens))
    sessions = Sessions(bus.log, blobs, process.clock)
    process.background.start("feed", sessions.follow_log)
    service = working_set.compose(bus.log, sessions, blobs)
    return Serving(settings, {WORKING_SET: service}, tokens.verifier(), (bus.need,))


async def _fault_handler(process: _Process) -> Serving:
    from pagekeeper.app.bus import open_bus
    from pagekeeper.fault_handler import main as fault_handler
    from pagekeeper.fault_handler.settings import FaultHandlerSettings

    settings = load(FaultHandlerSettings)
    tokens = process.internal_tokens(settings)
    bus = await process.exits.enter_async_context(open_bus(settings, "fault-handler"))
    composed = fault_handler.compose(
        bus.log,
        bus.queue,
        await process.remote(PAGE_TABLE, settings.page_table, tokens),
        await process.remote(WORKING_SET, settings.working_set, tokens),
        await process.remote(ARTIFACT_STORAGE, settings.artifact_storage, tokens),
        fault_handler.open_compression_runner(),
        fault_handler.open_summariser(settings),
    )
    composed.start(process.background)
    return Serving(settings, {FAULT_HANDLER: composed.service}, tokens.verifier(), (bus.need,))


async def _artifact_storage(process: _Process) -> Serving:
    from pagekeeper.app.bucket import open_store
    from pagekeeper.artifact_storage import main as artifact_storage
    from pagekeeper.artifact_storage.settings import ArtifactStorageSettings

    settings = load(ArtifactStorageSettings)
    store = await process.exits.enter_async_context(open_store(settings))
    verifier = process.internal_tokens(settings).verifier()
    service = artifact_storage.compose(store)
    return Serving(settings, {ARTIFACT_STORAGE: service}, verifier, (_store_need(store, required=True),))


_SERVICES: Final[Mapping[str, Callable[[_Process], Awaitable[Serving]]]] = {
    "all": _all,
    "gateway": _gateway,
    "page-table": _page_table,
    "working-set": _working_set,
    "fault-handler": _fault_handler,
    "artifact-storage": _artifact_storage,
}


def run_service(name: str) -> None:
    """Run until SIGTERM or SIGINT, then drain. A configuration that cannot be run ends with one line."""

    async def main(stop: asyncio.Event) -> None:
        clock, random = SystemClock(), Random()
        calls = start_logging(load(Settings).log_level, sys.stderr, clock)
        async with _process(clock, random) as process:
            serving = await _SERVICES[name](process)
            listening = _listening(serving.settings)
            limits = Limits(connection_seconds=serving.settings.connection_seconds)
            async with RpcServer(
                listening, serving.services, serving.verifier, calls, clock, random, limits, serving.needs
            ) as server:
                process.background.start("readiness", server.watch_needs)
                _log.info("serving", extra={"service": name, "port": server.port})
                await stop.wait()
                _log.info("draining", extra={"service": name})

    run(main)


def _listening(settings: ListenSettings) -> Listening:
    """Raises CannotStart for a half of a certificate and its key."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        missing = "PK_TLS_KEY" if key is None else "PK_TLS_CERTIFICATE"
        raise CannotStart(f"{missing} is not set: a certificate and its key are two files, and both are needed")
    tls = ServerTls(certificate, key) if certificate is not None and key is not None else None
    return Listening(settings.listen, tls, settings.reflection)


@asynccontextmanager
async def _process(clock: Clock, random: Random) -> AsyncIterator[_Process]:
    """Background work ends before what it works with is closed."""
    async with AsyncExitStack() as exits, Background(clock, random) as background:
        yield _Process(background, exits, clock, random)
