"""The golden log, and how a replica folds it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pagekeeper.core.effects import RecordedEffect
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.v1 import event_pb2

GOLDEN_LOG: Final = Path(__file__).with_name("session.history")
GOLDEN_STATES: Final = Path(__file__).with_name("session.states.json")
GOLDEN_STATES_OF_NEWEST_RULES: Final = Path(__file__).with_name("session.states.newest-rules.json")
GOLDEN_DECISIONS_OF_POLICIES: Final = Path(__file__).with_name("policies.decisions.json")
"""What each policy decides of the golden log when its sessions name that policy and no other."""

Kept = event_pb2.ArchivedRecord


def fold(
    archived: event_pb2.ArchivedHistory, *, until: int, through_snapshots: bool = False
) -> tuple[Session, list[RecordedEffect]]:
    """The state just after a revision, and every decision on the way: the step of `folds` that has the revision."""
    for revision, session, effects in folds(archived, through_snapshots=through_snapshots):
        if revision == until:
            return session, effects
    raise ValueError(f"no record has revision {until}")


def folds(
    archived: event_pb2.ArchivedHistory, *, through_snapshots: bool = False
) -> Iterator[tuple[int, Session, list[RecordedEffect]]]:
    """Each revision, the state just after it, which goes on, and every decision until then.

    With `through_snapshots` each state is written out and read back before the next record.
    """
    session, effects = Session(), []
    for kept in archived.records:
        if kept.record.HasField("transaction"):
            effects += session.apply(kept.revision, codec.decode_transaction(kept.record.transaction))
        else:
            session.roll_up(kept.revision, codec.decode_archive_segment(kept.record.snapshot.archived))
        if through_snapshots:
            session = codec.decode_state(codec.encode_state(session), session.revision)
        yield kept.revision, session, effects


def named(archived: event_pb2.ArchivedHistory, fold_version: Callable[[Kept], int]) -> event_pb2.ArchivedHistory:
    """The same log, of which every transaction names the rules that `fold_version` says."""
    copy = event_pb2.ArchivedHistory()
    copy.CopyFrom(archived)
    for kept in copy.records:
        if kept.record.HasField("transaction"):
            kept.record.transaction.fold_version = fold_version(kept)
    return copy


def with_policy(archived: event_pb2.ArchivedHistory, policy: str) -> event_pb2.ArchivedHistory:
    """The same log of a session that names `policy` wherever it names one."""
    copy = event_pb2.ArchivedHistory()
    copy.CopyFrom(archived)
    for kept in copy.records:
        for event in kept.record.transaction.events:
            if event.HasField("session_opened"):
                event.session_opened.config.eviction_policy = policy
            if event.HasField("session_configured"):
                event.session_configured.config.eviction_policy = policy
    return copy
