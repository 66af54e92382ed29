"""Following one session: what is derived of its state is kept up from the pages that changed."""

from weakref import ReferenceType, ref

from pagekeeper.core.session import Session


class Following:
    """A place in one session's history, from which what is derived of the session can be kept up."""

    def __init__(self) -> None:
        # A session that was read anew from a snapshot is another object; keeping the old one alive would serve nobody.
        self._session: ReferenceType[Session] | None = None
        self._revision = 0

    def catch_up(self, session: Session) -> list[str] | None:
        """Move to the session's revision. The answer is which pages may have changed, None for any of them."""
        same = self._session is not None and self._session() is session
        changed = session.changes.since(self._revision) if same else None
        if not same:
            self._session = ref(session)
        self._revision = session.revision
        return changed
