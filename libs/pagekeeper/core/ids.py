"""Identifiers, and the one grammar they all obey.

Invariant: an id that passed `check_id` is a single NATS subject token and a single object-key segment, so no id can
reach another tenant's subjects (`*`, `>` and `.` mean something to NATS) or climb out of a key prefix (`/`, `..`).
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

from pagekeeper.core.errors import InvalidField

TenantId = NewType("TenantId", str)
SessionId = NewType("SessionId", str)
PageId = NewType("PageId", str)
CheckpointId = NewType("CheckpointId", str)
Revision = NewType("Revision", int)
"""Position in a session's log; grows with every append, not contiguous. 0 means that nothing was ever appended."""

ID_LENGTH_MAX: Final = 64
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class SessionKey:
    """The address of a session: no store method takes a session id without its tenant."""

    tenant: TenantId
    session: SessionId


def ordinal_page_id(ordinal: int) -> PageId:
    """The id of a session's `ordinal`-th page, when its caller names none: `p17`, which takes two tokens.

    Pages count from 1 in the order in which they were first mapped.
    """
    return PageId(f"p{ordinal}")


def check_id(field: str, value: str) -> str:
    """Return `value` when it is a well-formed id.

    Raises InvalidField, which names the field and shows what was found, when it is not.
    """
    if _ID.fullmatch(value) is None:
        shown = value if len(value) <= ID_LENGTH_MAX else f"{value[:ID_LENGTH_MAX]}… ({len(value)} characters)"
        raise InvalidField(field, f"must be 1 to {ID_LENGTH_MAX} characters of A-Z a-z 0-9 _ -, not {shown!r}")
    return value


def session_key(tenant: str, session: str) -> SessionKey:
    """Checked address of a session. Raises InvalidField."""
    return SessionKey(TenantId(check_id("tenant", tenant)), SessionId(check_id("session_id", session)))
