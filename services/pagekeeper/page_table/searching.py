"""Full-text search over a session.

Invariant: a hit is a page that is mapped at the revision that the answer says.
"""

from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import PageState
from pagekeeper.core.search import EVERYTHING, Found, SearchFilter
from pagekeeper.core.session import Session
from pagekeeper.page_table.indexes import Indexed, Indexes
from pagekeeper.runtime import limits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import MODALITY, MODALITY_OF, PAGE_TYPE, PAGE_TYPE_OF, TIER
from pagekeeper.v1 import memory_service_pb2 as pb


class Searching:
    def __init__(self, sessions: Sessions, indexes: Indexes) -> None:
        self._sessions = sessions
        self._indexes = indexes

    async def search_pages(self, caller: Caller, request: pb.SearchPagesRequest) -> pb.SearchPagesResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        async with self._indexes.current(caller, key, session) as indexed:
            where = _filter(session, request)
            limit = limits.number_asked(request, "limit")
            found = indexed.index.search(request.query, limit=limit, where=where)
            hits = [_hit(session, page, one) for one in found if (page := session.page(one.page_id)) is not None]
            return pb.SearchPagesResponse(
                hits=hits, searched_pages=_count(session, indexed, where), revision=indexed.revision
            )


def _filter(session: Session, request: pb.SearchPagesRequest) -> SearchFilter:
    return SearchFilter(
        modality=MODALITY_OF.get(request.modality),
        page_types=tuple(PAGE_TYPE_OF[one] for one in request.page_types if one in PAGE_TYPE_OF),
        from_turn=request.from_turn,
        to_turn=request.to_turn or EVERYTHING.to_turn,
        exclude=frozenset(r.page_id for r in session.working_set) if request.exclude_resident else (),
    )


def _count(session: Session, indexed: Indexed, where: SearchFilter) -> int:
    """Pages that could have been found."""
    if where == EVERYTHING:
        return len(indexed.indexed)
    return sum(
        page.page_id in indexed.indexed
        and page.page_id not in where.exclude
        and where.modality in (None, page.modality)
        and (not where.page_types or page.page_type in where.page_types)
        and where.from_turn <= page.current.turn <= where.to_turn
        for page in session.mapped_pages()
    )


def _hit(session: Session, page: PageState, found: Found) -> pb.SearchHit:
    return pb.SearchHit(
        page_id=page.page_id,
        modality=MODALITY[page.modality],
        page_type=PAGE_TYPE[page.page_type],
        tier=TIER[session.tier(page)],
        levels=[representation.level for representation in page.current.representations],
        hint=page.hint,
        relevance=found.relevance,
        turn=page.current.turn,
        snippet=found.snippet,
    )
