"""The golden log, and how a replica folds it."""

from pathlib import Path
from typing import Final

from pagekeeper.core.effects import RecordedEffect
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.v1 import event_pb2

GOLDEN_LOG: Final = Path(__file__).with_name("session.history")
GOLDEN_STATES: Final = Path(__file__).with_name("session.states.json")


def fold(
    archived: event_pb2.ArchivedHistory, *, until: int, through_snapshots: bool = False
) -> tuple[Session, list[RecordedEffect]]:
    """The state just after a revision, and every decision on the way; perhaps read back from bytes at each step."""
    session, effects = Session(), []
    for kept in archived.records:
        if kept.record.HasField("transaction"):
            effects += session.apply(kept.revision, codec.decode_transaction(kept.record.transaction))
        else:
            session.roll_up(kept.revision, codec.decode_archive_segment(kept.record.snapshot.archived))
        if through_snapshots:
            session = codec.decode_state(codec.encode_state(session), session.revision)
        if kept.revision == until:
            return session, effects
    raise ValueError(f"no record has revision {until}")
