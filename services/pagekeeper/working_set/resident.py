"""The session's part of a prompt: resident pages, and the pages that a manifest may offer.

The order of what is offered is part of the prompt, so it is derived from the session alone.
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.lru import Lru
from pagekeeper.core.offering import input_page_id, words_page_id
from pagekeeper.core.pages import PageState
from pagekeeper.core.session import Session
from pagekeeper.runtime import limits
from pagekeeper.runtime.codec import usage_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import config_message, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from pagekeeper.working_set.shown import Shown

SHOWN_MAX: Final = 512
"""Sessions that are kept up: those with a prompt or two a minute. One of 10,000 pages takes about 3 MB."""
SHOWN_BYTES_MAX: Final = 256 * 1024 * 1024


class ResidentPages:
    def __init__(self, sessions: Sessions, shown_max: int = SHOWN_MAX) -> None:
        self._sessions = sessions
        self._shown: Lru[SessionKey, Shown] = Lru(
            count_max=shown_max, bytes_max=SHOWN_BYTES_MAX, size_bytes=attrgetter("size_bytes")
        )

    async def resident(self, caller: Caller, request: working_pb.ResidentRequest) -> working_pb.ResidentResponse:
        """Raises SessionNotFound."""
        limits.check(request)
        key = session_key(caller.tenant, request.session_id)
        known_revision = request.known_revision
        session = await self._sessions.read_for(key, request)
        if session.revision < known_revision:
            # Another replica told the caller of newer things: an old answer must not be taken for news.
            session = await self._sessions.read_existing(key, strict=True)
        order = () if request.omit_eviction_order else [one.page_id for one in session.unprotected()]
        if known_revision == session.revision:
            return working_pb.ResidentResponse(revision=session.revision, unchanged=True, eviction_order=order)
        shown = self._keep_up(key, session)
        since = shown.residents_since(session, known_revision) if request.changes and known_revision else None
        response = working_pb.ResidentResponse(
            revision=session.revision,
            resident=shown.residents(session) if since is None else since.entries,
            changes_only=since is not None,
            left_page_ids=() if since is None else since.left_page_ids,
            available=shown.offered(session, request.available_limit),
            config=config_message(session),
            stats=stats_message(session, shown.totals),
            turn=session.turn,
            eviction_order=order,
            input_page_id=input_page_id(session),
            available_total=shown.offered_total,
            usage=[usage_message(usage) for usage in session.usage.values()],
            words_page_id=words_page_id(session),
        )
        for entry in response.resident:
            page = session.pages.at_hand[entry.resident.page_id]
            if page.current.revision > known_revision:
                entry.inline.extend(_inline(page))
        return response

    async def get_stats(self, caller: Caller, request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        """Raises SessionNotFound."""
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        stats = stats_message(session, self._keep_up(key, session).totals)
        return pb.GetStatsResponse(stats=stats, revision=session.revision)

    def _keep_up(self, key: SessionKey, session: Session) -> Shown:
        shown = self._shown.get(key)
        if shown is None:
            shown = Shown()
        shown.keep_up(session)
        self._shown.put(key, shown)  # of another size now
        return shown


def _inline(page: PageState) -> Iterator[table_pb.InlineBytes]:
    return (
        table_pb.InlineBytes(level=representation.level, data=representation.inline)
        for representation in page.current.representations
        if representation.inline is not None
    )
