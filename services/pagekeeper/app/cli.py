"""`pagekeeper`: serve the platform and look at it.

Commands that talk to a running platform find it by PK_ENDPOINT and PK_TOKEN, or by the file that the local launcher
leaves in `.pagekeeper/` while it runs.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, ParamSpec

import click
from rich.table import Table
from rich.text import Text

from pagekeeper.app.printing import Printer, say
from pagekeeper.app.target import find_target
from pagekeeper.client import Pagekeeper, connect
from pagekeeper.client.page_history import event_text
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.v1 import page_pb2, session_pb2

SERVICES: Final = ("all", "gateway", "page-table", "working-set", "fault-handler", "artifact-storage")

MORE_COMMANDS: Final = "pagekeeper.commands"
"""The group of entry points whose objects are click commands of `pagekeeper`."""

P = ParamSpec("P")


@asynccontextmanager
async def connected() -> AsyncIterator[Pagekeeper]:
    target = find_target()
    async with connect(target.endpoint, target.token, ca=target.ca) as pagekeeper:
        yield pagekeeper


def asynchronous(command: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a command to its end; what the platform refuses is one line, not a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(command(*args, **kwargs))
        except (PagekeeperError, CannotStart) as refusal:
            reason = f" ({refusal.reason})" if isinstance(refusal, PagekeeperError) else ""
            say(f"pagekeeper: {refusal}{reason}", err=True)
            sys.exit(1)

    return run


class Commands(click.Group):
    """The commands below, and those that installed packages and a clone name as entry points of `MORE_COMMANDS`.

    An entry point whose package is absent is no command: the wheel names what only a clone has files for.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the alphabet's order."""
        found = (entry.name for entry in entry_points(group=MORE_COMMANDS) if find_spec(entry.module.partition(".")[0]))
        return sorted({*super().list_commands(ctx), *found})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the name, loaded when it is first asked for; None when there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in self.list_commands(ctx):
            return own
        (entry,) = entry_points(group=MORE_COMMANDS, name=cmd_name)
        command: click.Command = entry.load()
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pagekeeper", message="%(version)s")
def main() -> None:
    """Virtual memory for LLM context, as a service."""


@main.command()
@click.argument("service", type=click.Choice(SERVICES))
def serve(service: str) -> None:
    """Run one service, or all of them in one process. Settings come from PK_* variables."""
    from pagekeeper.app.serve import run_service  # noqa: PLC0415 - a client command must not import the servers

    run_service(service)


@main.command()
@asynchronous
async def init() -> None:
    """Make the log's streams, or give those that are there more bytes or servers. Settings come from PK_* variables.

    Services wait for the streams and change nothing of them. Nothing is ever lowered.
    """
    from pagekeeper.app.bus import init_log  # noqa: PLC0415 - a client command must not import the servers
    from pagekeeper.runtime.settings import InitSettings, load  # noqa: PLC0415

    settings = load(InitSettings)
    for note in await init_log(settings):
        say(note)
    say(f"the log has {settings.log_partitions} partitions, each on {settings.log_replicas} servers or more")


@main.command()
@asynchronous
async def doctor() -> None:
    """Check what runs: versions, durability settings, a write and a read of it."""
    from pagekeeper.app.doctor import examine  # noqa: PLC0415 - a client command must not import the servers

    target = find_target()
    healthy = await examine(target, Printer(soft_wrap=True))
    if not healthy:
        sys.exit(1)


@main.group()
def session() -> None:
    """Look at sessions."""


@session.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@asynchronous
async def session_list(*, as_json: bool) -> None:
    """List the tenant's sessions."""
    async with connected() as pagekeeper:
        sessions = [one async for one in pagekeeper.list_sessions()]
    if as_json:
        for one in sessions:
            say(json.dumps(_session_facts(one)))
        return
    table = Table("session", "state", "revision", "turns", "pages", "updated", "labels")
    for one in sessions:
        facts = _session_facts(one)
        labels = " ".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
        table.add_row(
            one.session_id,
            facts["state"],
            f"{one.revision}",
            f"{one.turn}",
            f"{one.page_count}",
            facts["updated"],
            labels,
        )
    Printer().print(table)


@session.command("show")
@click.argument("session_id")
@asynchronous
async def session_show(session_id: str) -> None:
    """Show a session: its settings, its working set, its counters."""
    async with connected() as pagekeeper:
        handle = pagekeeper.session(session_id)
        facts, stats = await handle.get(), await handle.stats()
    console = Printer(soft_wrap=True)
    state = _session_facts(facts)["state"]
    console.print(Text.assemble((facts.session_id, "bold"), f" {state}, revision {facts.revision}, turn {facts.turn}"))
    if facts.parent_session_id:
        console.print(f"forked from {facts.parent_session_id} at revision {facts.parent_revision}")
    used = f"{stats.used_tokens:,} of {stats.limit_tokens:,} tokens"
    pressure = _name(session_pb2.Pressure, stats.pressure)
    console.print(f"L0: {used}, {stats.resident_pages} of {stats.total_pages} pages, pressure {pressure}")
    console.print(
        f"faults {stats.faults_total}, evictions {stats.evictions_total}, compressions {stats.compressions_total}, "
        f"thrash index {stats.thrash_index:.2f}, dirty pages {stats.dirty_pages}"
    )
    console.print(
        f"budget {facts.config.max_l0_tokens:,} tokens, {facts.config.reserved_tokens:,} reserved, "
        f"policy {facts.config.eviction_policy}, mode {_name(session_pb2.VmMode, facts.config.mode)}"
    )


@session.command("history")
@click.argument("session_id")
@asynchronous
async def session_history(session_id: str) -> None:
    """Fold a session's log again and say whether it is what is served."""
    async with connected() as pagekeeper:
        replayed = await pagekeeper.session(session_id).replay()
        checkpoints = [c async for c in pagekeeper.session(session_id).checkpoints()]
    verdict = ("is", "") if replayed.matches_served_state else ("is not", "bold red")
    console = Printer(soft_wrap=True)
    console.print(f"revision {replayed.revision}: {replayed.transactions} transactions, {replayed.decisions} decisions")
    digest = replayed.state_digest.hex()[:16]
    console.print(Text.assemble("the state folded again ", verdict, f" the state served; sha256 {digest}…"))
    for checkpoint in checkpoints:
        where = f"revision {checkpoint.revision}, turn {checkpoint.turn}"
        console.print(f"checkpoint {checkpoint.checkpoint_id}: {checkpoint.name!r}, {where}")


@main.group()
def page() -> None:
    """Look at pages."""


@page.command("show")
@click.argument("session_id")
@click.argument("page_id")
@click.option("--level", type=click.IntRange(0, 3), default=0, help="0 full, 1 reduced, 2 abstract, 3 reference.")
@click.option(
    "--preview", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write what a medium looks like here."
)
@asynchronous
async def page_show(session_id: str, page_id: str, level: int, picture: Path | None) -> None:
    """Show a page: what is known about it, its content, what happened to it."""
    async with connected() as pagekeeper:
        handle = pagekeeper.session(session_id)
        known = await handle.page(page_id)
        content = await handle.read(page_id, level=level)
        if picture is not None:
            preview = await handle.preview(page_id)
            if preview is None:
                raise click.ClickException(f"page {page_id!r} has no preview, or none yet")
            await asyncio.to_thread(picture.write_bytes, preview.data)
        history = [entry async for entry in handle.page_history(page_id)]
    console = Printer(soft_wrap=True)
    console.print(
        Text.assemble(
            (known.page_id, "bold"),
            f" version {known.version}, {_name(page_pb2.Modality, known.modality)} "
            f"{_name(page_pb2.PageType, known.page_type)} of {_name(page_pb2.MessageRole, known.role)}, "
            f"in {_name(page_pb2.StorageTier, known.tier)}, turn {known.turn}",
        )
    )
    for representation in known.representations:
        where = representation.placement.extent.object_key or "the log"
        console.print(
            f"  level {representation.level}: {representation.size_tokens:,} tokens, "
            f"{representation.size_bytes:,} bytes in {where} {representation.compressor}"
            f"{f', with a preview: {representation.preview_mime_type}' if representation.preview_mime_type else ''}",
            highlight=False,
        )
    say(content.decode(errors="replace") if known.modality in TEXTUAL or level else f"({len(content):,} bytes)")
    for entry in history:
        console.print(f"  revision {entry.revision}, turn {entry.turn}: {event_text(entry)}", highlight=False)


@main.command()
@click.argument("session_id")
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 100), default=5)
@asynchronous
async def search(session_id: str, query: str, limit: int) -> None:
    """Search a session's pages, content and hints."""
    async with connected() as pagekeeper:
        hits = await pagekeeper.session(session_id).search(query, limit=limit)
    table = Table("page", "relevance", "turn", "tier", "passage")
    for hit in hits:
        table.add_row(
            hit.page_id,
            f"{hit.relevance:.2f}",
            f"{hit.turn}",
            _name(page_pb2.StorageTier, hit.tier),
            hit.snippet or hit.hint,
        )
    Printer().print(table if hits else "nothing found")


TEXTUAL: Final = frozenset({page_pb2.MODALITY_TEXT, page_pb2.MODALITY_STRUCTURED})


def _session_facts(one: session_pb2.Session) -> dict[str, Any]:
    return {
        "session_id": one.session_id,
        "state": _name(session_pb2.SessionState, one.state),
        "revision": one.revision,
        "turn": one.turn,
        "pages": one.page_count,
        "updated": f"{datetime.fromtimestamp(one.updated_unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z",
        "labels": dict(one.labels),
    }


def _name(enumeration: Any, number: int) -> str:  # noqa: ANN401 - protobuf's enumerations have no common type
    """`PAGE_TYPE_CLAIM` as `claim`."""
    names = enumeration.DESCRIPTOR.values_by_number
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    known = names.get(number)
    return known.name.removeprefix(prefix).lower().replace("_", " ") if known else f"{number}"
