"""Pages as a model's page_fault is answered with them: whole, or a piece of one that is too large."""

from pagekeeper.core import decisions
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.core.pages import PageState, StorageTier
from pagekeeper.core.pieces import is_read_in_pieces, piece_at, piece_tokens_max, readable_text, render_piece
from pagekeeper.core.tools import FaultedPage, PageFaultCall, meta_of
from pagekeeper.memory.process_session import ProcessSession


def shown_to_a_model(process: ProcessSession, page: PageState, level: int, tier: StorageTier) -> FaultedPage:
    version = page.current
    return FaultedPage(
        page_id=page.page_id,
        modality=page.modality,
        level=level,
        tier=tier,
        text=process.text(page, level),
        media=version.media if level == 0 else None,
        meta=meta_of(
            tier,
            turn=version.turn,
            mime_type=version.mime_type,
            speaker=version.speaker or page.tool_name,
            tool_call_id=page.tool_call_id,
            said_unix_ms=version.said_unix_ms,
        ),
    )


def piece_for_a_model(
    process: ProcessSession, call: PageFaultCall, offset: int, refused: PagekeeperError | None = None
) -> str:
    """The piece of a page that begins at `offset`.

    Raises `refused`, why the page was not brought in, when it may be brought in another time; PageNotFound,
    InvalidField.
    """
    session = process.session
    page = decisions.known_page(session, call.page_id)
    representation = page.current.nearest(call.target_level)
    if refused is not None and not is_read_in_pieces(refused, representation.size_tokens, session.config):
        raise refused
    shown = shown_to_a_model(process, page, representation.level, session.tier(page))
    piece = piece_at(readable_text(shown), offset, piece_tokens_max(session.config), process.count)
    return render_piece(shown, piece)
