"""The pages that a user's words call for, for the prompt that is being made.

Recalled pages are read, not admitted. The session stays the same, so a prompt may be asked for twice, and a turn's
faults remain the model's.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.events import DemandPaging
from pagekeeper.gateway.contents import Content, Contents, Wanted, levels_below
from pagekeeper.gateway.ports import PageTablePort
from pagekeeper.runtime.codec import enum_numbers
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

ASKED_CHARS_MAX: Final = 4_096
"""Characters of the beginning, and of the end, of the words that recall searches for: ranking pages takes page-table
time that grows with the words, on the loop that answers everybody."""

_DEMAND_PAGING = {
    number: who for who, number in enum_numbers(DemandPaging, session_pb2.DemandPaging.DESCRIPTOR).items()
}


@dataclass(frozen=True, slots=True)
class Recalled:
    """A page that is not resident, with its content at each of its levels that can be read, the full one first."""

    page: page_pb2.Page
    contents: tuple[tuple[int, Content], ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """The pages that words recall: utility by page id, residents included, and the non-resident pages.

    The latter are in the order in which they came into the session. `calls_before` are the turns before that called for
    the past lately.
    """

    utility: dict[str, float]
    pages: tuple[Recalled, ...]
    calls_before: int


NOTHING = Recall({}, (), 0)


def demand_paging(request: pb.AssemblePromptRequest, session: DemandPaging) -> DemandPaging:
    """Return the demand paging of this prompt: model, runtime or both."""
    return _DEMAND_PAGING.get(request.demand_paging, session)


async def recall(
    caller: Caller,
    page_table: PageTablePort,
    contents: Contents,
    residents: Container[str],
    request: table_pb.RecallPagesRequest,
) -> Recall:
    """`residents` are those of the prompt, at the request's `min_revision`.

    Levels that cannot be read are left out, and so are pages without any. Raises SessionNotFound, StoreUnavailable.
    """
    request.query = _cut(request.query)
    answer = await page_table.recall_pages(caller, request)
    # Page-table may know of later things than the prompt is about: of a page that has become resident lately there is
    # no more than its id, and a version that is newer than the prompt has no place in it.
    others = (one.entry for one in answer.pages if one.entry.page.page_id not in residents)
    entries = [one for one in others if one.page.representations and one.page.revision <= request.min_revision]
    entries.sort(key=lambda entry: (entry.page.turn, entry.page.revision))
    wanted = [want for entry in entries for want in _levels(entry)]
    loaded = iter(await contents.load_each(caller, request.session_id, wanted))
    levels = [[(want.level, next(loaded)) for want in _levels(entry)] for entry in entries]
    pages = [
        Recalled(entry.page, readable)
        for entry, read in zip(entries, levels, strict=True)
        if (readable := tuple((level, content) for level, content in read if isinstance(content, Content)))
    ]
    utility = {one.entry.page.page_id: one.worth for one in answer.pages}
    return Recall(utility, tuple(pages), answer.calls_before)


def _cut(words: str) -> str:
    """The beginning and the end of what the user says: what lies between in a long message is pasted."""
    if len(words) <= 2 * ASKED_CHARS_MAX:
        return words
    return f"{words[:ASKED_CHARS_MAX]}\n{words[-ASKED_CHARS_MAX:]}"


def _levels(entry: table_pb.PageEntry) -> list[Wanted]:
    inline = {one.level: one.data for one in entry.inline}
    lower = (representation.level for representation in levels_below(entry.page, 0))
    return [Wanted(entry.page, level, inline.get(level)) for level in (0, *lower)]
