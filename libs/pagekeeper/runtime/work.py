"""Kinds of background work, and on whose behalf it is done.

| kind | left behind by | done by | data |
|---|---|---|---|
| `writeback` | page-table, when a session's log has grown | artifact-storage: flush, then leave a `snapshot` | none |
| `snapshot` | artifact-storage, after a write-back | page-table: replace the log by its fold | none |
| `compress` | page-table, when pages were mapped | fault-handler: make lower representations | CompressWork |

All of it may be lost but delays nothing for good, and all of it may be done twice.
"""

from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.identity import Caller

WRITEBACK: Final = "writeback"
SNAPSHOT: Final = "snapshot"
COMPRESS: Final = "compress"

SUBJECT: Final = "pagekeeper"
"""Who works in the background, in tokens and logs."""


def platform_caller(key: SessionKey) -> Caller:
    """The platform itself, for the session's tenant and for no other."""
    return Caller(key.tenant, SUBJECT, frozenset(), None, "")
