"""Kinds of background work, and on whose behalf it is done.

| kind | left behind by | done by | data |
|---|---|---|---|
| `writeback` | page-table, when a log has grown | page-table: flush, then replace the log by its fold | none |
| `thin` | page-table, when a partition fills | page-table: flush, then one small record in place of the log | none |
| `compress` | page-table, when pages were mapped | fault-handler: make lower representations | CompressWork |

All of it may be lost but delays nothing for good, and all of it may be done twice.
"""

from collections.abc import Sequence
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import event_pb2

WRITEBACK: Final = "writeback"
THIN: Final = "thin"
COMPRESS: Final = "compress"

SUBJECT: Final = "pagekeeper"
"""The subject of background work, in tokens and logs."""


def platform_caller(key: SessionKey) -> Caller:
    """The platform itself, for the session's tenant and for no other."""
    return Caller(key.tenant, SUBJECT, None, "")


def compress_data(page_ids: Sequence[str]) -> bytes:
    """The data of a piece of `compress` work."""
    return event_pb2.CompressWork(page_ids=page_ids).SerializeToString()


def pages_to_compress(data: bytes) -> list[str]:
    """The pages that a piece of `compress` work names, each once and in its order."""
    return list(dict.fromkeys(event_pb2.CompressWork.FromString(data).page_ids))
