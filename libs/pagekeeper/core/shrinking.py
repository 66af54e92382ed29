"""Which pages are worth having at lower levels soon.

A session that is small is shown whole: its pages need no lower levels. In one that outgrew `SMALL_TOKENS`, or half of
its prompt, every page gets them soon after it was appended; ADR 9 says what that costs. A medium gets them anyway: they
are what can be seen of it, and what its bytes tell.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pagekeeper.core.effects import Admitted, Evicted, NotAdmitted, PressureChanged, RecordedEffect
from pagekeeper.core.pages import CompressionLevel, Modality, PageState, PageType
from pagekeeper.core.session import Session

COMPRESS_TOKENS_MIN: Final = 24
"""Of a page's line that is worth lower levels: half of it is its header."""
SMALL_TOKENS: Final = 4_096
SMALL_SHARE: Final = 0.5
"""Of the prompt's limit."""
AHEAD: Final = 3.0
"""How many evictions' worth of pages is compressed ahead: one batch frees what lies between the watermarks."""


def pages_to_compress(session: Session, effects: Sequence[RecordedEffect]) -> list[str]:
    """Pages without lower levels that this change made worth compressing, the most urgent first."""
    page_ids: dict[str, None] = {}
    admitted: dict[str, int] = {}
    evicted = 0
    for effect in effects:
        match effect.what:
            case PressureChanged():
                page_ids.update(dict.fromkeys(_leaving_soon(session)))
            case Evicted(page_id) | NotAdmitted(page_id):
                page_ids[page_id] = None
                evicted += isinstance(effect.what, Evicted)
            case Admitted(page_id, size_tokens=size_tokens, faulted=faulted):
                admitted[page_id] = size_tokens
                if not faulted and _has_medium(session.page(page_id)):
                    page_ids[page_id] = None
            case _:
                pass
    page_ids.update(dict.fromkeys(_grown(session, admitted, evicted)))
    return [page_id for page_id in page_ids if _is_compressible(session.page(page_id))]


def _grown(session: Session, admitted: Mapping[str, int], evicted: int) -> Iterable[str]:
    """Of a session that is not small, what came to it; of one that was small a moment ago, all.

    One that has evicted pages is not small, however little of it is resident.
    """
    if session.counters.evictions_total > evicted:
        return admitted
    small_tokens = min(SMALL_TOKENS, session.config.limit_tokens * SMALL_SHARE)
    used_tokens = session.working_set.used_tokens
    if used_tokens <= small_tokens and not evicted:
        return ()
    was_small = evicted or used_tokens - sum(admitted.values()) <= small_tokens
    return session.pages if was_small else admitted


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


def _has_medium(page: PageState | None) -> bool:
    return page is not None and page.current.media is not None and page.current.full.size_bytes > 0


def _is_compressible(page: PageState | None) -> bool:
    return (
        page is not None
        and (page.modality in (Modality.TEXT, Modality.STRUCTURED) or page.current.media is not None)
        and page.page_type is not PageType.INDEX
        and (page.current.full.size_tokens >= COMPRESS_TOKENS_MIN or _has_medium(page))
        and len(page.current.representations) == 1
    )
