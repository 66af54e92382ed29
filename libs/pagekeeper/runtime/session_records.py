"""Records of a session's log as `sessions` writes and reads them."""

from collections.abc import Coroutine, Sequence
from hashlib import blake2b, sha256
from typing import Any, TypeVar

from pagekeeper.core import events as ev
from pagekeeper.core.errors import ContentCorrupt
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.errors import to_public_error
from pagekeeper.runtime.log import port as logs
from pagekeeper.v1 import event_pb2

T = TypeVar("T")


def decode_snapshot(data: bytes, digest: bytes, revision: int) -> Session:
    state = codec.decompress_state(data)
    if sha256(state).digest() != digest:
        raise ContentCorrupt(f"the snapshot at revision {revision} does not match its digest")
    return codec.decode_state(state, revision)


def begins(transaction: event_pb2.Transaction) -> bool:
    """Whether a session begins here; one that had the id before is gone, tombstone and all."""
    return any(event.WhichOneof("kind") == "session_opened" for event in transaction.events[:1])


def snapshot_record(snapshot: event_pb2.Snapshot) -> bytes:
    return event_pb2.LogRecord(snapshot=snapshot).SerializeToString(deterministic=True)


def name_of_bytes(operation_id: str, data: bytes) -> str:
    """Return the id by which the log recognises and repeats an append: rule 4 of `sessions`."""
    return f"{operation_id}.{blake2b(data, digest_size=8).hexdigest()}"


async def from_log(asked: Coroutine[Any, Any, T]) -> T:
    """Await an answer of the log, and raise its refusals as public errors; AppendConflict, SessionGone as they are."""
    try:
        return await asked
    except (logs.AppendConflict, logs.SessionGone):
        raise
    except logs.LogError as error:
        raise to_public_error(error) or error from error


def as_events(decided: Sequence[ev.Event] | ev.Event | None) -> tuple[ev.Event, ...]:
    if decided is None:
        return ()
    return tuple(decided) if isinstance(decided, Sequence) else (decided,)
