"""The session's part of a prompt: resident pages, and the pages that a manifest may offer.

The order of what is offered is part of the prompt, so it is derived from the session alone.
"""

from operator import attrgetter
from typing import Final

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.lru import Lru
from pagekeeper.core.offering import SaidLast, said_last
from pagekeeper.core.session import Session
from pagekeeper.runtime import limits
from pagekeeper.runtime.codec import usage_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.views import InlineRoom, config_message, page_facts, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
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
            available_total=shown.offered_total,
            usage=[usage_message(usage) for usage in session.usage.values()],
        )
        inline = InlineRoom()
        _put_words(response, session, said_last(session, shown.last_message), inline)
        for entry in response.resident:
            page = session.pages.at_hand[entry.resident.page_id]
            if page.current.revision > known_revision:
                entry.inline.extend(inline.bytes_of(page.current.representations))
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


def _put_words(
    response: working_pb.ResidentResponse, session: Session, said: SaidLast | None, inline: InlineRoom
) -> None:
    """Say what the user said last, and show the page when the context does not."""
    if said is None:
        return
    response.words_page_id = said.page.page_id
    if said.is_input:
        response.input_page_id = said.page.page_id
    if not said.in_context:
        response.words.page.CopyFrom(page_facts(session, said.page))
        response.words.inline.extend(inline.bytes_of(said.page.current.representations))
