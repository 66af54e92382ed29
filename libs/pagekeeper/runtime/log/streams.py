"""The streams of the services: made if missing, checked if present, never silently changed.

The promises of a stream (its subjects, what is kept, what is refused) are fixed when the stream is made. A stream with
other promises is refused. An operator may change the stream's size and number of replicas.

The number of partitions is a promise too. Each log stream carries the number, so that a service that is started with
another number refuses to run, and does not look for sessions in wrong partitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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

ENSURE_TIMEOUT_SECONDS: Final = 30.0
DEAD_AGE_SECONDS_MAX: Final = 30 * 24 * 3600
DUPLICATE_WINDOW_SECONDS: Final = 120
"""How long a repeated work item is recognised by its id."""

_PARTITIONS: Final = "pagekeeper.partitions"
_NANOSECONDS: Final = 1_000_000_000
_STREAM_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058


class StreamUnfit(Exception):
    """A stream exists but promises something else. The message says what, and what would help."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The bytes that an operator gives to the streams. Servers reserve these bytes, and refuse with less free space.

    `log_bytes_max` is per partition. `replicas` is 3 on a cluster.
    """

    replicas: int = 1
    log_bytes_max: int = 2 * 1024**3
    work_bytes_max: int = 1024**3
    dead_bytes_max: int = 256 * 1024**2


async def ensure_streams(
    connection: Connection,
    *,
    partitions: int,
    capacity: Capacity,
    timeout_seconds: float = ENSURE_TIMEOUT_SECONDS,
) -> None:
    """Have all streams as described above. Safe to repeat, also by several services at once.

    Errors: StreamUnfit, Refused (no room on the server, not enough servers), Unreachable.
    """
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"partitions must be 1 to {PARTITIONS_MAX}, not {partitions}")
    deadline = now() + timeout_seconds
    for stream in _streams(partitions, capacity):
        await _ensure(connection, stream, deadline)


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    promises: Mapping[str, Any]
    capacity: Mapping[str, Any]


def _streams(partitions: int, capacity: Capacity) -> list[_Stream]:
    logs = [
        _Stream(
            log_stream(partition),
            {
                **_promises(f"{LOG_PREFIX}.{partition}.>"),
                "allow_rollup_hdrs": True,
                "allow_direct": True,
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
        "persist_mode": "default",
    }


async def _ensure(connection: Connection, stream: _Stream, deadline: float) -> None:
    wanted = {"name": stream.name, **stream.promises, **stream.capacity}
    try:
        answer = await ask(connection, f"STREAM.INFO.{stream.name}", {}, deadline=deadline)
    except Refused as refusal:
        if refusal.error_code != _STREAM_NOT_FOUND:
            raise
        answer = await _create(connection, wanted, deadline)
    found = answer["config"]
    _check(stream, found)
    if any(found.get(name) != value for name, value in stream.capacity.items()):
        await ask(connection, f"STREAM.UPDATE.{stream.name}", {**found, **stream.capacity}, deadline=deadline)


async def _create(connection: Connection, wanted: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    name = wanted["name"]
    try:
        return await ask(connection, f"STREAM.CREATE.{name}", wanted, deadline=deadline)
    except Refused as refusal:
        # Another service was faster, with other numbers: judge what it made.
        if refusal.error_code != _NAME_IN_USE:
            raise
        return await ask(connection, f"STREAM.INFO.{name}", {}, deadline=deadline)


def _check(stream: _Stream, found: Mapping[str, Any]) -> None:
    for name, wanted in stream.promises.items():
        if name == "metadata":
            _check_partitions(stream.name, wanted[_PARTITIONS], found.get("metadata") or {})
            continue
        # The server leaves out what is at its default.
        actual = found.get(name, type(wanted)()) if name != "persist_mode" else found.get(name, "default")
        if actual != wanted:
            raise StreamUnfit(
                f"stream {stream.name} has {name} {actual!r}, not {wanted!r}: this platform did not make it"
            )
    for name in ("mirror", "sources", "subject_transform"):
        if found.get(name):
            raise StreamUnfit(f"stream {stream.name} has {name}: its messages would not be ours alone")


def _check_partitions(stream: str, wanted: str, metadata: Mapping[str, str]) -> None:
    actual = metadata.get(_PARTITIONS)
    if actual != wanted:
        raise StreamUnfit(
            f"stream {stream} was made for {actual or 'an unknown number of'} partitions, not {wanted}: the number is "
            f"chosen once, since sessions are found by it; set partitions to {actual or 'what it was'}"
        )
