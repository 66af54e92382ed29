"""Identifiers, the grammar that they obey, and how they stand in the names of servers.

Applications have ids like `user:123`, `ada@example.org` or `C01/1699.12`, and a stack takes them. `token_of` writes an
id as a single NATS subject token and a single segment of an object key: each character that is no letter, digit, `_` or
`-` becomes `=` and two hexadecimal digits. `=` is in no id, so `id_of_token` reads the id back. No id can reach
another tenant's subjects (`*`, `>`, `.` mean something to NATS) or climb out of a key's prefix (`/`, `..`). A tenant's
id is such a token as it is.
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
ID: Final = re.compile(r"[A-Za-z0-9_.:@/+#-]{1,64}")
"""The grammar of ids. A line of a prompt shows them as they are."""
_TENANT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_TOKENS: Final = re.compile(r"[^A-Za-z0-9_-]")
_WRITTEN: Final = re.compile(r"=([0-9A-F]{2})")


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
    if ID.fullmatch(value) is None:
        raise _no_id(field, "A-Z a-z 0-9 _ . : @ / + # -", value)
    return value


def check_tenant(field: str, value: str) -> str:
    """Return `value` when it can be a tenant's id. Raises InvalidField as `check_id` does."""
    if _TENANT.fullmatch(value) is None:
        raise _no_id(field, "A-Z a-z 0-9 _ -", value)
    return value


def token_of(checked_id: str) -> str:
    """The id as a subject token and a segment of an object key. Different ids have different tokens."""
    return _NOT_IN_TOKENS.sub(lambda found: f"={ord(found[0]):02X}", checked_id)


def id_of_token(token: str) -> str:
    """The id that `token_of` was given."""
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), token)


def _no_id(field: str, characters: str, value: str) -> InvalidField:
    shown = value if len(value) <= ID_LENGTH_MAX else f"{value[:ID_LENGTH_MAX]}… ({len(value)} characters)"
    return InvalidField(field, f"must be 1 to {ID_LENGTH_MAX} characters of {characters}, not {shown!r}")


def session_key(tenant: str, session: str) -> SessionKey:
    """Checked address of a session. Raises InvalidField."""
    return SessionKey(TenantId(check_tenant("tenant", tenant)), SessionId(check_id("session_id", session)))
