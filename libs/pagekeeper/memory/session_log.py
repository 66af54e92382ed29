"""One session in this process: its transactions, the contents that they name, and the state that they fold to.

What a stack does with a log on a server is done here with a list. A decision of the core becomes an event, an event is
appended and folded, and nothing else changes the state. So a state of the past is a fold that stops early, a
checkpoint is a revision, and what was saved is folded again when it is loaded.

Invariant: every content that an event names by its digest is in `contents`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import RecordedEffect
from pagekeeper.core.errors import RevisionNotFound
from pagekeeper.core.pages import Extent, StoredRepresentation
from pagekeeper.core.session import Session

IN_THIS_PROCESS: Final = "process"
"""The object key of every extent here: bytes lie in `contents`, by their digest."""

Listener = Callable[[ev.Transaction, Sequence[RecordedEffect]], None]


@dataclass(slots=True)
class SessionLog:
    """`now_ms` says what time it is, Unix time in milliseconds. `listeners` hear of each transaction once folded."""

    session_id: str
    now_ms: Callable[[], int]
    session: Session = field(default_factory=Session)
    transactions: list[ev.Transaction] = field(default_factory=list)
    contents: dict[bytes, bytes] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    last_revisions: dict[int, int] = field(default_factory=dict)
    """By turn."""

    @classmethod
    def opened(cls, session_id: str, now_ms: Callable[[], int], config: ev.SessionConfig) -> "SessionLog":
        """A new session."""
        log = cls(session_id, now_ms)
        log.commit(decisions.open_session(log.session, session_id, config, ()))
        return log

    @classmethod
    def folded(
        cls,
        session_id: str,
        now_ms: Callable[[], int],
        transactions: Sequence[ev.Transaction],
        contents: Mapping[bytes, bytes],
    ) -> "SessionLog":
        """A session that was: its transactions are folded again."""
        log = cls(session_id, now_ms, contents=dict(contents))
        for transaction in transactions:
            log._fold(transaction)
        return log

    def commit(self, *events: ev.Event | None) -> list[RecordedEffect]:
        """Append what was decided as one transaction, and fold it. None is a decision that nothing is to change."""
        happened = tuple(event for event in events if event is not None)
        if not happened:
            return []
        revision = len(self.transactions) + 1
        return self._fold(decisions.transaction(self.session, f"r{revision}", b"", self.now_ms(), happened))

    def _fold(self, transaction: ev.Transaction) -> list[RecordedEffect]:
        self.transactions.append(transaction)
        revision = len(self.transactions)
        effects = self.session.apply(revision, transaction)
        self.last_revisions[self.session.turn] = revision
        for listener in self.listeners:
            listener(transaction, effects)
        return effects

    def stored(self, content: bytes, level: int = 0, compressor: str = "") -> StoredRepresentation:
        """`content` as events name it; its tokens are not counted yet."""
        digest = sha256(content).digest()
        self.contents.setdefault(digest, content)
        extent = Extent(IN_THIS_PROCESS, 0, len(content))
        return StoredRepresentation(level, 0, len(content), digest, compressor, extent=extent)

    def content(self, representation: StoredRepresentation) -> bytes:
        return self.contents[representation.digest]

    # The past

    def at_revision(self, revision: int) -> Session:
        """The state after the transaction of that number. Raises RevisionNotFound."""
        if not 0 <= revision <= len(self.transactions):
            raise RevisionNotFound(f"revision {revision}", len(self.transactions))
        then = Session()
        for number, transaction in enumerate(self.transactions[:revision], start=1):
            then.apply(number, transaction)
        return then

    def at_turn(self, turn: int) -> Session:
        """The state at the end of a turn; of the turn that is going on, the present one. Raises RevisionNotFound."""
        if turn == self.session.turn:
            return self.session
        return self.at_revision(self.end_of_turn(turn))

    def end_of_turn(self, turn: int) -> int:
        """The last revision of a turn. Raises RevisionNotFound."""
        if turn not in self.last_revisions:
            raise RevisionNotFound(f"turn {turn}", len(self.transactions))
        return self.last_revisions[turn]
