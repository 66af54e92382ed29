"""The streams of the services: made and enlarged by one command, checked by every service, never lowered.

The promises of a stream (its subjects, what is kept, what is refused) are fixed when the stream is made; a stream with
other promises is refused. `make_streams` alone makes streams, gives them more bytes and keeps them on more servers. A
stream that has more than is asked for keeps it: a command with a setting left out would take room or safety from
everybody. `check_streams` changes nothing, and waits for streams that are not there yet.

The number of partitions is a promise too. Each log stream carries the number, so that a service that is started with
another number refuses to run, and does not look for sessions in wrong partitions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pagekeeper.runtime.log.connection import Connection, now
from pagekeeper.runtime.log.jetstream import Refused, ask
from pagekeeper.runtime.log.port import MESSAGE_BYTES_MAX
from pagekeeper.runtime.log.subjects import (
    DEAD_PREFIX,
    DEAD_STREAM,
    FEED_PREFIX,
    LOG_PREFIX,
    PARTITIONS_MAX,
    WORK_PREFIX,
    WORK_STREAM,
    log_stream,
)

MAKE_TIMEOUT_SECONDS: Final = 60.0
CHECK_TIMEOUT_SECONDS: Final = 60.0
"""How long a service waits for streams that are still to be made."""
CHECK_PAUSE_SECONDS: Final = 0.2
AT_ONCE: Final = 8
"""Streams that are looked at side by side. Each is a Raft group of its own on a cluster, and making one takes long."""
DEAD_AGE_SECONDS_MAX: Final = 30 * 24 * 3600
DUPLICATE_WINDOW_SECONDS: Final = 120
"""How long a repeated work item is recognised by its id."""

_ADDED_LATER: Final = ("allow_msg_ttl",)
"""Promises that streams of earlier releases lack, and that a stream can be given while it is used."""
_PARTITIONS: Final = "pagekeeper.partitions"
_NANOSECONDS: Final = 1_000_000_000
_STREAM_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058


T = TypeVar("T")


class StreamUnfit(Exception):
    """A stream is not there, or promises something else. The message says what, and what would help."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The room of the streams, as an operator gives it. Servers reserve the bytes, and refuse with less free space.

    `log_bytes_max` is per partition. `replicas` is 3 on a cluster.
    """

    replicas: int = 1
    log_bytes_max: int = 2 * 1024**3
    work_bytes_max: int = 1024**3
    dead_bytes_max: int = 256 * 1024**2


async def make_streams(
    connection: Connection, *, partitions: int, capacity: Capacity, timeout_seconds: float = MAKE_TIMEOUT_SECONDS
) -> list[str]:
    """Have all streams as described above, with `capacity` or more. Safe to repeat, and to run twice at once.

    Returns a sentence for each stream that has more than was asked for.
    Errors: StreamUnfit, Refused (no room on the server, not enough servers), Unreachable.
    """
    deadline = now() + timeout_seconds
    notes = await _each(_streams(partitions, capacity), lambda stream: _make(connection, stream, deadline))
    return [note for of_stream in notes for note in of_stream]


async def check_streams(
    connection: Connection, *, partitions: int, timeout_seconds: float = CHECK_TIMEOUT_SECONDS
) -> None:
    """Wait until all streams are there, and change nothing. Errors: StreamUnfit, Refused, Unreachable."""
    deadline = now() + timeout_seconds
    await _each(_streams(partitions, Capacity()), lambda stream: _wait_for(connection, stream, deadline))


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    promises: Mapping[str, Any]
    capacity: Mapping[str, Any]


async def _each(streams: Sequence[_Stream], work: Callable[[_Stream], Awaitable[T]]) -> list[T]:
    """Do some work for each stream, `AT_ONCE` at a time. Raises what the first that fails raises."""
    done: list[T] = []
    for start in range(0, len(streams), AT_ONCE):
        done += await asyncio.gather(*(work(stream) for stream in streams[start : start + AT_ONCE]))
    return done


def _streams(partitions: int, capacity: Capacity) -> list[_Stream]:
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"partitions must be 1 to {PARTITIONS_MAX}, not {partitions}")
    logs = [
        _Stream(
            log_stream(partition),
            {
                **_promises(f"{LOG_PREFIX}.{partition}.>"),
                "allow_rollup_hdrs": True,
                "allow_direct": True,
                "allow_msg_ttl": True,  # a tombstone goes by itself
                "deny_delete": True,  # deny_purge cannot be had: a rollup is a purge
                "republish": {"src": f"{LOG_PREFIX}.>", "dest": f"{FEED_PREFIX}.>", "headers_only": True},
                "metadata": {_PARTITIONS: str(partitions)},
            },
            {"max_bytes": capacity.log_bytes_max, "num_replicas": capacity.replicas},
        )
        for partition in range(partitions)
    ]
    work = _Stream(
        WORK_STREAM,
        {**_promises(f"{WORK_PREFIX}.>"), "retention": "workqueue"},
        {"max_bytes": capacity.work_bytes_max, "num_replicas": capacity.replicas},
    )
    dead = _Stream(
        DEAD_STREAM,
        {
            **_promises(f"{DEAD_PREFIX}.>"),
            "allow_direct": True,
            "max_age": DEAD_AGE_SECONDS_MAX * _NANOSECONDS,
        },
        {"max_bytes": capacity.dead_bytes_max, "num_replicas": capacity.replicas},
    )
    return [*logs, work, dead]


def _promises(subject: str) -> dict[str, Any]:
    """Return the compared part of a stream's configuration; other parts are not compared."""
    return {
        "subjects": [subject],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msg_size": MESSAGE_BYTES_MAX,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0,
        "duplicate_window": DUPLICATE_WINDOW_SECONDS * _NANOSECONDS,
        "no_ack": False,
        "sealed": False,
        "deny_delete": False,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_direct": False,
        "allow_msg_ttl": False,
        "persist_mode": "default",
    }


async def _make(connection: Connection, stream: _Stream, deadline: float) -> list[str]:
    found = await _config(connection, stream.name, deadline)
    if found is None:
        found = await _create(connection, {"name": stream.name, **stream.promises, **stream.capacity}, deadline)
    improved = {name: stream.promises[name] for name in _ADDED_LATER}
    _check(stream, {**found, **improved})
    more = {name: found[name] for name, wanted in stream.capacity.items() if not 0 < found[name] <= wanted}
    wanted_config = {**found, **improved, **stream.capacity, **more}
    if wanted_config != found:
        await ask(connection, f"STREAM.UPDATE.{stream.name}", wanted_config, deadline=deadline)
    return [
        f"stream {stream.name} keeps its {name} of {actual if actual > 0 else 'any'}, more than {stream.capacity[name]}"
        for name, actual in more.items()
    ]


async def _wait_for(connection: Connection, stream: _Stream, deadline: float) -> None:
    while (found := await _config(connection, stream.name, deadline)) is None:
        if now() + CHECK_PAUSE_SECONDS >= deadline:
            raise StreamUnfit(f"stream {stream.name} is not there: run `pagekeeper init` first, which makes it")
        await asyncio.sleep(CHECK_PAUSE_SECONDS)
    _check(stream, found)


async def _config(connection: Connection, name: str, deadline: float) -> dict[str, Any] | None:
    """The configuration of a stream; None for a stream that is not there."""
    try:
        answer = await ask(connection, f"STREAM.INFO.{name}", {}, deadline=deadline)
    except Refused as refusal:
        if refusal.error_code != _STREAM_NOT_FOUND:
            raise
        return None
    config: dict[str, Any] = answer["config"]
    return config


async def _create(connection: Connection, wanted: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    name = wanted["name"]
    try:
        answer = await ask(connection, f"STREAM.CREATE.{name}", wanted, deadline=deadline)
    except Refused as refusal:
        # Another run was faster, with other numbers: judge what it made.
        if refusal.error_code != _NAME_IN_USE:
            raise
        answer = await ask(connection, f"STREAM.INFO.{name}", {}, deadline=deadline)
    config: dict[str, Any] = answer["config"]
    return config


def _check(stream: _Stream, found: Mapping[str, Any]) -> None:
    for name, wanted in stream.promises.items():
        if name == "metadata":
            _check_partitions(stream.name, wanted[_PARTITIONS], found.get("metadata") or {})
            continue
        # The server leaves out what is at its default.
        actual = found.get(name, type(wanted)()) if name != "persist_mode" else found.get(name, "default")
        if actual != wanted:
            raise StreamUnfit(f"stream {stream.name} has {name} {actual!r}, not {wanted!r}: {_advice(name)}")
    for name in ("mirror", "sources", "subject_transform"):
        if found.get(name):
            raise StreamUnfit(f"stream {stream.name} has {name}: its messages would not be ours alone")


def _advice(name: str) -> str:
    if name in _ADDED_LATER:
        return "an earlier release made it; run `pagekeeper init`, which brings it up to date"
    return "this platform did not make it"


def _check_partitions(stream: str, wanted: str, metadata: Mapping[str, str]) -> None:
    actual = metadata.get(_PARTITIONS)
    if actual != wanted:
        raise StreamUnfit(
            f"stream {stream} was made for {actual or 'an unknown number of'} partitions, not {wanted}: the number is "
            f"chosen once, since sessions are found by it; set partitions to {actual or 'what it was'}"
        )
