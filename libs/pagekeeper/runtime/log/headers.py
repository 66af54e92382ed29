"""Headers of a record on the wire, and a record read from headers."""

from collections.abc import Mapping
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.log.jetstream import Stored
from pagekeeper.runtime.log.port import Notice, Record, decode_touches, encode_touches

OPERATION: Final = "Pk-Operation"
TOUCHES: Final = "Pk-Touches"

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_ROLLUP: Final = "Nats-Rollup"
_ROLLUP_SUBJECT: Final = "sub"
_TTL: Final = "Nats-TTL"


def record_headers(
    expected_revision: int, operation_id: str, touches: tuple[str, ...] | None, *, rollup: bool
) -> dict[str, str]:
    headers = {OPERATION: operation_id, _EXPECTED: str(expected_revision)}
    carried = encode_touches(touches)
    if carried is not None:
        headers[TOUCHES] = carried
    if rollup:
        headers[_ROLLUP] = _ROLLUP_SUBJECT
    return headers


def tombstone_headers(expected_revision: int, operation_id: str, stands_seconds: int) -> dict[str, str]:
    headers = record_headers(expected_revision, operation_id, None, rollup=True)
    headers[_TTL] = f"{stands_seconds}s"
    return headers


def record_of(stored: Stored) -> Record:
    return Record(stored.sequence, stored.headers.get(OPERATION, ""), stored.data, rollup=_ROLLUP in stored.headers)


def previous_revision(headers: Mapping[str, str]) -> int:
    """The revision that a stored record was appended to: the server keeps what it compared."""
    return int(headers.get(_EXPECTED, 0))


def live_notice(key: SessionKey, sequence: int, headers: Mapping[str, str]) -> Notice:
    return Notice(key, previous_revision(headers), sequence, decode_touches(headers.get(TOUCHES)))
