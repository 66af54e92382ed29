"""Working-set put together, for a process of its own or for one that holds all services."""

from pagekeeper.runtime.history import History
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.sessions import BlobReader, Sessions
from pagekeeper.working_set.service import WorkingSetService


def compose(log: SessionLog, sessions: Sessions, blobs: BlobReader) -> WorkingSetService:
    """`sessions` must be kept current by whoever made it: see `Sessions.follow_log`."""
    return WorkingSetService(sessions, History(log, blobs, sessions))
