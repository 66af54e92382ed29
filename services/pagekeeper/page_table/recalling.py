"""Demand paging: which pages of the whole session a user's words call for, before a model sees them.

It reads and changes nothing: a page that is recalled is in the prompt that asked for it, and in no other.
"""

from collections.abc import Sequence
from typing import Final

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import PageState
from pagekeeper.core.recall import BESIDE_SHARE_MIN, Recalled, recall
from pagekeeper.core.recall_intent import CALLING_TURNS
from pagekeeper.core.session import Session
from pagekeeper.page_table.indexes import Indexes
from pagekeeper.page_table.queries import page_entry
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

RECALLED_MAX: Final = 512
"""Pages of an answer."""


class Recalling:
    def __init__(self, sessions: Sessions, indexes: Indexes) -> None:
        self._sessions = sessions
        self._indexes = indexes

    async def recall_pages(self, caller: Caller, request: table_pb.RecallPagesRequest) -> table_pb.RecallPagesResponse:
        """Raises SessionNotFound, InvalidField, StoreUnavailable."""
        key = session_key(caller.tenant, request.session_id)
        if not request.room_tokens:
            raise InvalidField("room_tokens", "must be at least 1, not 0")
        session = await self._sessions.read_existing(key, min_revision=request.min_revision)
        async with self._indexes.current(caller, key, session) as indexed:
            found = recall(indexed.index, request.query, limit=RECALLED_MAX)
            calls_before = indexed.index.calls_since(session.turn - CALLING_TURNS + 1, request.query)
            response = table_pb.RecallPagesResponse(revision=indexed.revision, calls_before=calls_before)
            room_tokens = request.room_tokens
            worth_min = _worth_min(session, found) if request.residents_placed else 0.0
            for ranked in found:
                page = session.page(ranked.page_id)
                if page is None:
                    continue
                resident = page.page_id in session.working_set
                if not (resident and request.residents_placed):
                    # The shortest line that the page has: what it takes of the room at least.
                    room_tokens -= min(level.size_tokens for level in page.current.representations)
                if room_tokens < 0 or ranked.worth < worth_min:
                    break
                response.pages.add(entry=_entry(session, page, resident=resident), worth=ranked.worth)
            return response


def _worth_min(session: Session, found: Sequence[Recalled]) -> float:
    best = next((ranked.worth for ranked in found if ranked.page_id not in session.working_set), 0.0)
    return best * BESIDE_SHARE_MIN


def _entry(session: Session, page: PageState, *, resident: bool) -> table_pb.PageEntry:
    """Of a resident page its id: the caller has the rest."""
    if resident:
        return table_pb.PageEntry(page=page_pb2.Page(page_id=page.page_id))
    return page_entry(session, page)
