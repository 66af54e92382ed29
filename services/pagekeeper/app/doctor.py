"""Whether a running platform keeps its promises: who answers, what it stands on, and one page written and read back.

The doctor checks NATS and the object store only where the process has their settings (PK_NATS_URL, PK_S3_ENDPOINT, ...
or the local launcher's file), because a mere caller has no access to either.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.text import Text

from pagekeeper.app.bucket import open_store
from pagekeeper.app.bus import open_bus
from pagekeeper.app.printing import Printer
from pagekeeper.app.target import STACK_FILE, Target
from pagekeeper.client import Session, connect, user
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.rpc.addresses import ask_dns, endpoints_of
from pagekeeper.runtime.rpc.probe import SERVING, health_of
from pagekeeper.runtime.settings import LogSettings, StoreSettings, load

PROBE_SECONDS: Final = 10.0
HEALTH_SECONDS: Final = 2.0
SERVICE_VARIABLES: Final = {
    "page-table": "PK_PAGE_TABLE",
    "working-set": "PK_WORKING_SET",
    "fault-handler": "PK_FAULT_HANDLER",
    "artifact-storage": "PK_ARTIFACT_STORAGE",
}

Check = Callable[[], Awaitable[str]]


class NotHealthy(Exception):
    """A check that failed; the message says what was found."""


async def examine(target: Target, console: Printer) -> bool:
    """Run every check that can be run from here and print one line each. True when all are well."""
    _adopt_local_environment()
    checks: list[tuple[str, Check]] = [("gateway", lambda: _health(target.endpoint, target.ca))]
    for name, variable in SERVICE_VARIABLES.items():
        if address := os.environ.get(variable):
            checks.append((name, lambda address=address: _health(address, target.ca)))  # type: ignore[misc]
    if os.environ.get("PK_NATS_URL"):
        checks.append(("log", _log))
    if os.environ.get("PK_S3_ENDPOINT"):
        checks.append(("object store", _store))
    checks.append(("write and read", lambda: _round_trip(target)))
    console.print(f"pagekeeper {version('pagekeeper')}")
    results = [await _run(name, check, console) for name, check in checks]
    return all(results)


def _adopt_local_environment() -> None:
    """Take the settings of the local launcher's services for variables that the environment does not set."""
    if STACK_FILE.exists():
        for name, value in json.loads(STACK_FILE.read_text())["environment"].items():
            os.environ.setdefault(name, value)


async def _run(name: str, check: Check, console: Printer) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            found = await check()
    except (NotHealthy, PagekeeperError, CannotStart, TimeoutError) as problem:
        console.print(Text.assemble(("✗", "red"), f" {name:<16} {str(problem) or 'no answer'}"), highlight=False)
        return False
    console.print(Text.assemble(("✓", "green"), f" {name:<16} {found}"), highlight=False)
    return True


async def _health(addresses: str, ca: Path | None) -> str:
    """Ask every replica of a setting. Raises NotHealthy for the first that does not serve."""
    try:
        endpoints = await endpoints_of(addresses, ask_dns)
    except OSError as error:
        raise NotHealthy(f"{addresses}: {error}") from error
    return ", ".join([await _health_of(endpoint.name, ca) for endpoint in endpoints])


async def _health_of(address: str, ca: Path | None) -> str:
    status = await health_of(address, timeout_seconds=HEALTH_SECONDS, ca=ca)
    if status != SERVING:
        raise NotHealthy(f"{address}: {status}")
    return f"serving at {address}"


async def _log() -> str:
    settings = load(LogSettings)
    async with open_bus(settings, "doctor"):
        return f"new enough, every append synced to disk, {settings.log_partitions} partitions as they must be"


async def _store() -> str:
    settings = load(StoreSettings)
    async with open_store(settings) as store:
        await store.check()
    return f"{settings.s3_endpoint}, bucket {settings.s3_bucket}: written, read, deleted"


async def _round_trip(target: Target) -> str:
    async with connect(target.endpoint, target.token, call_seconds=PROBE_SECONDS, ca=target.ca) as pagekeeper:
        session = await pagekeeper.open_session(labels={"purpose": "doctor"})
        async with _deleted_at_the_end(session):
            text = "The doctor was here."
            appended = await session.append(user(text))
            page_id = appended.pages[0].page_id
            if await session.read(page_id) != text.encode():
                raise NotHealthy("a page was not read as it was written")
            placed = await session.flush()
            if await session.read(page_id) != text.encode():
                raise NotHealthy("a page was not read from the object store as it was written")
            prompt = await session.assemble()
            if text not in prompt.messages[-1].content:
                raise NotHealthy("the prompt does not show the page")
    moved = f"{placed.placed} moved to the object store"
    return f"a page at revision {appended.revision}, {moved}, a prompt of {prompt.tokens.total} tokens"


@asynccontextmanager
async def _deleted_at_the_end(session: Session) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await session.delete()
