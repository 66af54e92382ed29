"""Where bytes lie: the one RPC of page-table that artifact-storage needs, in a class of its own so that each of the two
can be made whole: page-table with artifact-storage, artifact-storage with this.
"""

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import Extent
from pagekeeper.core.session import Session
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import request_of
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.v1 import event_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb


class Placements:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def place_pages(self, caller: Caller, request: table_pb.PlacePagesRequest) -> table_pb.PlacePagesResponse:
        key = session_key(caller.tenant, request.session_id)
        placements = [_placed(caller, index, placed) for index, placed in enumerate(request.placements)]

        def decide(session: Session) -> ev.PagesPlaced | None:
            return decisions.place(decisions.readable(session, key.session), placements)

        touches = tuple(dict.fromkeys(placed.page_id for placed in placements))
        committed = await self._sessions.commit(key, request_of(request), decide, touches=touches)
        return table_pb.PlacePagesResponse(revision=committed.revision)


def _placed(caller: Caller, index: int, placed: event_pb2.PlacedRepresentation) -> ev.PlacedRepresentation:
    """Raises InvalidField for a place that the tenant could not read."""
    if not placed.extent.object_key.startswith(f"{caller.tenant}/"):
        raise InvalidField(f"placements[{index}].extent.object_key", "must begin with the tenant")
    extent = Extent(placed.extent.object_key, placed.extent.offset, placed.extent.length)
    return ev.PlacedRepresentation(placed.page_id, placed.version, placed.level, extent)
