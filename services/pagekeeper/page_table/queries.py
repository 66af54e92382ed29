"""Reading the page table. Nothing here changes anything or waits for more than the log."""

from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from pagekeeper.core import decisions
from pagekeeper.core.errors import PageNotFound
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.pages import PageState, Version
from pagekeeper.core.session import Session
from pagekeeper.page_table.page_tokens import index_in, page_token
from pagekeeper.runtime import limits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.listing import ListRoom
from pagekeeper.runtime.sessions import Read, Sessions
from pagekeeper.runtime.views import MODALITY_OF, PAGE_TYPE_OF, TIER_OF, InlineRoom, page_facts, page_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb

_LIST: Final = "pages"

T = TypeVar("T")


class Queries:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def lookup(self, caller: Caller, request: table_pb.LookupRequest) -> table_pb.LookupResponse:
        limits.check(request)
        key = session_key(caller.tenant, request.session_id)

        def found(session: Session) -> table_pb.LookupResponse:
            inline = InlineRoom()
            entries = [_entry_at(session, page_id, request.version, inline) for page_id in request.page_ids]
            return table_pb.LookupResponse(revision=session.revision, entries=entries)

        return await self._find(key, request, found)

    async def get_page(self, caller: Caller, request: pb.GetPageRequest) -> pb.GetPageResponse:
        key = session_key(caller.tenant, request.session_id)

        def found(session: Session) -> pb.GetPageResponse:
            page = decisions.known_page(session, request.page_id)
            return pb.GetPageResponse(page=page_message(session, page), revision=session.revision)

        return await self._find(key, request, found)

    async def list_pages(self, caller: Caller, request: pb.ListPagesRequest) -> pb.ListPagesResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        room = ListRoom(limits.number_asked(request, "page_size"))
        # Pages never leave the mapping order, dropped ones neither, so a place in it stays the same place.
        position = index_in(_LIST, request.page_token)
        wanted = _filter(session, request)
        response = pb.ListPagesResponse(revision=session.revision)
        for page_id in islice(session.pages, position, None):
            page = session.pages[page_id]
            if page.mapped and wanted(page):
                message = page_message(session, page)
                if not room.takes(message):
                    response.next_page_token = page_token(_LIST, str(position))
                    break
                response.pages.append(message)
            position += 1
        return response

    async def _find(self, key: SessionKey, request: Read, found: Callable[[Session], T]) -> T:
        """Return the answer of `found`. Raises PageNotFound when the log's leader has confirmed the absence."""
        try:
            return found(await self._sessions.read_for(key, request))
        except PageNotFound:
            return found(await self._sessions.read_existing(key, min_revision=request.min_revision, strict=True))


def page_entry(
    session: Session, page: PageState, inline: InlineRoom, version: Version | None = None
) -> table_pb.PageEntry:
    """A page's facts, at the current version unless `version` names another, with bytes that lie in the log."""
    representations = (version or page.current).representations
    return table_pb.PageEntry(page=page_facts(session, page, version), inline=inline.bytes_of(representations))


def _entry_at(session: Session, page_id: str, number: int, inline: InlineRoom) -> table_pb.PageEntry:
    """The entry at a version; 0 for the current one. Raises PageNotFound."""
    page = decisions.known_page(session, page_id)
    version = page.version(number) if number else page.current
    if version is None:
        raise PageNotFound(page_id)
    return page_entry(session, page, inline, version)


def _filter(session: Session, request: pb.ListPagesRequest) -> Callable[[PageState], bool]:
    tier = TIER_OF.get(request.tier)
    page_type = PAGE_TYPE_OF.get(request.page_type)
    modality = MODALITY_OF.get(request.modality)

    def wanted(page: PageState) -> bool:
        return (
            (tier is None or session.tier(page) is tier)
            and (page_type is None or page.page_type is page_type)
            and (modality is None or page.modality is modality)
        )

    return wanted
