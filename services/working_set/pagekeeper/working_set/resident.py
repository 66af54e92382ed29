"""What a prompt needs to know: the resident pages, and the pages that a manifest may offer.

The order of what is offered is part of the prompt, so it is derived from the session alone.
"""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

from pagekeeper.memory.ids import SessionKey, session_key
from pagekeeper.memory.pages import MessageRole, PageState, PageType
from pagekeeper.memory.session import Session
from pagekeeper.memory.working_set import Resident
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import config_message, page_message, resident_message, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

AVAILABLE_MAX: Final = 256
VALUABLE_TYPES: Final = frozenset({PageType.CLAIM, PageType.SUMMARY, PageType.PROCEDURE})


class ResidentPages:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def resident(self, caller: Caller, request: working_pb.ResidentRequest) -> working_pb.ResidentResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, min_revision=request.min_revision)
        if request.known_revision == session.revision:
            return working_pb.ResidentResponse(revision=session.revision, unchanged=True)
        cold = request.known_revision == 0
        available = [page for page in session.mapped_pages() if page.page_id not in session.working_set]
        offered = nsmallest(min(request.available_limit, AVAILABLE_MAX), available, key=_least_useful_last)
        return working_pb.ResidentResponse(
            revision=session.revision,
            resident=[_entry(session, resident, with_bytes=cold) for resident in session.working_set],
            available=[page_message(session, page) for page in offered],
            config=config_message(session),
            stats=stats_message(session),
            turn=session.turn,
            eviction_order=[resident.page_id for resident in session.eviction_order()],
            input_page_id=_input_page_id(session),
            available_total=len(available),
        )

    async def get_stats(self, caller: Caller, request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        key: SessionKey = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, min_revision=request.min_revision)
        return pb.GetStatsResponse(stats=stats_message(session), revision=session.revision)


def _entry(session: Session, resident: Resident, *, with_bytes: bool) -> working_pb.ResidentEntry:
    page = session.pages[resident.page_id]
    entry = working_pb.ResidentEntry(resident=resident_message(session, resident), page=page_message(session, page))
    if with_bytes:
        entry.inline.extend(_inline(page))
    return entry


def _inline(page: PageState) -> Iterable[table_pb.InlineBytes]:
    return (
        table_pb.InlineBytes(level=representation.level, data=representation.inline)
        for representation in page.current.representations
        if representation.inline is not None
    )


def _least_useful_last(page: PageState) -> tuple[bool, float, int, int]:
    """Claims, summaries and procedures first, then by importance, then what was used last, then what is newest."""
    return (page.page_type not in VALUABLE_TYPES, -page.importance, -page.last_used_turn, -page.current.revision)


def _input_page_id(session: Session) -> str:
    """The user's message of this turn, while nothing but tool results has come after it."""
    for resident in reversed(list(session.working_set)):
        page = session.pages[resident.page_id]
        if page.current.turn != session.turn or resident.faulted:
            continue
        if page.role is MessageRole.USER:
            return page.page_id if resident.level == 0 and page.current.media is None else ""
        if page.role is MessageRole.ASSISTANT:
            return ""
    return ""
