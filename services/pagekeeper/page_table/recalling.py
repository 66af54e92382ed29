"""Demand paging: which pages of the whole session a user's words call for, before a model sees them.

A recall changes nothing: a recalled page is in the prompt that asked for it, and in no other.
"""

from pagekeeper.core.demand_paging import recalled_pages
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import PageState
from pagekeeper.core.session import Session
from pagekeeper.page_table.indexes import Indexes
from pagekeeper.page_table.queries import page_entry
from pagekeeper.runtime import limits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import InlineRoom
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb


class Recalling:
    def __init__(self, sessions: Sessions, indexes: Indexes) -> None:
        self._sessions = sessions
        self._indexes = indexes

    async def recall_pages(self, caller: Caller, request: table_pb.RecallPagesRequest) -> table_pb.RecallPagesResponse:
        """Raises SessionNotFound, InvalidField, StoreUnavailable."""
        limits.check(request)
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        async with self._indexes.current(caller, key, session) as indexed:
            recalled = recalled_pages(
                session,
                indexed.index,
                request.query,
                room_tokens=request.room_tokens,
                residents_placed=request.residents_placed,
            )
            inline = InlineRoom()
            response = table_pb.RecallPagesResponse(revision=indexed.revision, calls_before=recalled.calls_before)
            for one in recalled.pages:
                response.pages.add(entry=_entry(session, one.page, inline, resident=one.resident), worth=one.utility)
            return response


def _entry(session: Session, page: PageState, inline: InlineRoom, *, resident: bool) -> table_pb.PageEntry:
    """Of a resident page its id: the caller has the rest."""
    if resident:
        return table_pb.PageEntry(page=page_pb2.Page(page_id=page.page_id))
    return page_entry(session, page, inline)
