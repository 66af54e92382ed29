"""Which pages are worth having at lower levels soon.

Compressing costs a hundred times what appending costs, and most pages of most sessions never leave the prompt. So pages
get lower levels when room runs short: those that would leave first, and those that left or never entered without any.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from pagekeeper.memory.happenings import Evicted, Happening, NotAdmitted, PressureChanged
from pagekeeper.memory.pages import CompressionLevel, Modality, PageState, PageType
from pagekeeper.memory.session import Session

COMPRESS_TOKENS_MIN: Final = 96
"""Of a page that is worth lower levels."""
AHEAD: Final = 3.0
"""How many evictions' worth of pages is compressed ahead: one batch frees what lies between the watermarks."""


def pages_to_compress(session: Session, happenings: Iterable[Happening]) -> list[str]:
    """Pages without lower levels that this change made worth compressing, the most urgent first."""
    page_ids: dict[str, None] = {}
    for happening in happenings:
        match happening.what:
            case PressureChanged():
                page_ids.update(dict.fromkeys(_leaving_soon(session)))
            case Evicted(page_id) | NotAdmitted(page_id):
                page_ids[page_id] = None
            case _:
                pass
    return [page_id for page_id in page_ids if _is_compressible(session.page(page_id))]


def _leaving_soon(session: Session) -> Iterator[str]:
    config = session.config
    watermarks = config.eviction_threshold - config.target_utilization
    room_tokens = int(config.limit_tokens * watermarks * AHEAD)
    if session.working_set.used_tokens <= config.limit_tokens * config.target_utilization:
        return
    for resident in session.eviction_order():
        if room_tokens <= 0:
            return
        room_tokens -= resident.size_tokens
        if resident.level == CompressionLevel.FULL:
            yield resident.page_id


def _is_compressible(page: PageState | None) -> bool:
    return (
        page is not None
        and page.modality in (Modality.TEXT, Modality.STRUCTURED)
        and page.page_type is not PageType.INDEX
        and page.current.full.size_tokens >= COMPRESS_TOKENS_MIN
        and len(page.current.representations) == 1
    )
