"""The API's messages of folded state. Functions here read, and never decide."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from pagekeeper.core.bookkeeping import Checkpoint, SessionState
from pagekeeper.core.effects import Pressure
from pagekeeper.core.errors import LevelUnavailable
from pagekeeper.core.pages import (
    FaultReason,
    LinkKind,
    MessageRole,
    Modality,
    PageState,
    PageType,
    StorageTier,
    StoredRepresentation,
    Version,
)
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident
from pagekeeper.runtime.codec import MessageWriter, codec_of, enum_numbers
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

MODALITY = cast(dict[Modality, Any], enum_numbers(Modality, page_pb2.Modality.DESCRIPTOR))
PAGE_TYPE = cast(dict[PageType, Any], enum_numbers(PageType, page_pb2.PageType.DESCRIPTOR))
ROLE = cast(dict[MessageRole, Any], enum_numbers(MessageRole, page_pb2.MessageRole.DESCRIPTOR))
TIER = cast(dict[StorageTier, Any], enum_numbers(StorageTier, page_pb2.StorageTier.DESCRIPTOR))
FAULT_REASON = cast(dict[FaultReason, Any], enum_numbers(FaultReason, page_pb2.FaultReason.DESCRIPTOR))
LINK_KIND = cast(dict[LinkKind, Any], enum_numbers(LinkKind, page_pb2.LinkKind.DESCRIPTOR))
PRESSURE = cast(dict[Pressure, Any], enum_numbers(Pressure, session_pb2.Pressure.DESCRIPTOR))
SESSION_STATE = cast(dict[SessionState, Any], enum_numbers(SessionState, session_pb2.SessionState.DESCRIPTOR))

MODALITY_OF = {number: member for member, number in MODALITY.items()}
PAGE_TYPE_OF = {number: member for member, number in PAGE_TYPE.items()}
ROLE_OF = {number: member for member, number in ROLE.items()}
TIER_OF = {number: member for member, number in TIER.items()}
FAULT_REASON_OF = {number: member for member, number in FAULT_REASON.items()}
LINK_KIND_OF = {number: member for member, number in LINK_KIND.items()}

INLINE_BYTES_MAX: Final = 3 * 1024 * 1024

_PAGE_FACTS = MessageWriter(PageState, page_pb2.Page, apart=("pinned", "metadata"))
_VERSION_FACTS = MessageWriter(Version, page_pb2.Page, apart=("representations",))


def representation_message(representation: StoredRepresentation) -> page_pb2.Representation:
    extent = representation.extent
    if extent is None:
        placement = page_pb2.Placement(inline=page_pb2.InlinePlacement())
    else:
        placement = page_pb2.Placement(
            extent=page_pb2.Extent(object_key=extent.object_key, offset=extent.offset, length=extent.length)
        )
    return page_pb2.Representation(
        level=representation.level,
        size_tokens=representation.size_tokens,
        size_bytes=representation.size_bytes,
        digest=representation.digest,
        compressor=representation.compressor,
        placement=placement,
        preview_mime_type=representation.preview_mime_type,
    )


def representation_of(page: page_pb2.Page, level: int) -> page_pb2.Representation:
    """The page's representation at that level. Raises LevelUnavailable."""
    for representation in page.representations:
        if representation.level == level:
            return representation
    levels = ", ".join(str(r.level) for r in page.representations)
    raise LevelUnavailable(
        f"page {page.page_id!r} has levels {levels}, not {level}", page_id=page.page_id, level=str(level)
    )


class InlineRoom:
    """The room of one internal answer for bytes that lie in the log. Others are looked up when they are needed."""

    def __init__(self, bytes_max: int = INLINE_BYTES_MAX) -> None:
        self._bytes_left = bytes_max

    def bytes_of(self, representations: Iterable[StoredRepresentation]) -> list[table_pb.InlineBytes]:
        """The bytes of those that lie in the log, as far as there is room."""
        inline = []
        for one in representations:
            if one.inline is not None and len(one.inline) <= self._bytes_left:
                self._bytes_left -= len(one.inline)
                inline.append(table_pb.InlineBytes(level=one.level, data=one.inline))
        return inline


def page_facts(session: Session, page: PageState, version: Version | None = None) -> page_pb2.Page:
    """As `page_message`, for other services: without what the application says of the page and no service asks for."""
    return page_message(session, page._replace(metadata=(), links=()), version)


def page_message(session: Session, page: PageState, version: Version | None = None) -> page_pb2.Page:
    """A page's public facts, at the current version unless `version` names another."""
    shown = version or page.current
    resident = session.working_set.get(page.page_id)
    return page_pb2.Page(
        tier=TIER[session.tier(page)],
        resident_level=resident.level if resident else 0,
        representations=[representation_message(r) for r in shown.representations],
        pinned=session.is_pinned(page),
        metadata={kv.key: kv.value for kv in page.metadata},
        **_PAGE_FACTS.written(page),
        **_VERSION_FACTS.written(shown),
    )


def resident_message(session: Session, resident: Resident) -> session_pb2.ResidentPage:
    page = session.pages[resident.page_id]
    return session_pb2.ResidentPage(
        page_id=resident.page_id,
        version=resident.version,
        level=resident.level,
        size_tokens=resident.size_tokens,
        importance=page.importance,
        pinned=session.is_protected(page),
        faulted=resident.faulted,
        admitted_turn=resident.admitted_turn,
    )


def session_message(session: Session, session_id: str, now_unix_ms: int) -> session_pb2.Session:
    return session_pb2.Session(
        session_id=session_id,
        state=SESSION_STATE[session.state],
        revision=session.revision,
        config=config_message(session),
        labels={label.key: label.value for label in session.labels},
        turn=session.turn,
        page_count=session.pages.mapped_total,
        created_unix_ms=session.created_unix_ms,
        updated_unix_ms=session.updated_unix_ms,
        idle_seconds=max(0, now_unix_ms - session.updated_unix_ms) // 1000,
        parent_session_id=session.parent_session_id,
        parent_revision=session.parent_revision,
    )


def config_message(session: Session) -> session_pb2.SessionConfig:
    return cast(session_pb2.SessionConfig, codec_of(type(session.config)).encode(session.config))


@dataclass(frozen=True, slots=True)
class PageTotals:
    """Sums over all mapped pages: what a long session should not count anew at every turn."""

    total_pages: int
    dirty_pages: int
    total_tokens: int


def page_totals(session: Session) -> PageTotals:
    mapped = list(session.mapped_pages())
    full_tokens = sum(page.current.full.size_tokens for page in mapped)
    return PageTotals(len(mapped), sum(page.dirty for page in mapped), full_tokens)


def stats_message(session: Session, totals: PageTotals) -> session_pb2.SessionStats:
    by_modality: dict[Modality, int] = {}
    for resident in session.working_set:
        modality = session.pages[resident.page_id].modality
        by_modality[modality] = by_modality.get(modality, 0) + resident.size_tokens
    return session_pb2.SessionStats(
        limit_tokens=session.config.limit_tokens,
        used_tokens=session.working_set.used_tokens,
        resident_pages=len(session.working_set),
        total_pages=totals.total_pages,
        dirty_pages=totals.dirty_pages,
        faults_total=session.faults_total,
        faults_this_turn=session.counters.faults_this_turn,
        fault_tokens_this_turn=session.counters.fault_tokens_this_turn,
        faults_by_reason=[
            session_pb2.FaultCount(reason=FAULT_REASON[reason], count=session.faults_by_reason[reason])
            for reason in FaultReason
            if reason in session.faults_by_reason
        ],
        evictions_total=session.counters.evictions_total,
        compressions_total=session.counters.compressions_total,
        thrash_faults_total=session.counters.thrash_faults_total,
        thrash_index=session.thrash_index,
        pressure=PRESSURE[session.pressure()],
        tokens_by_modality=[
            session_pb2.ModalityTokens(modality=MODALITY[modality], tokens=tokens)
            for modality, tokens in sorted(by_modality.items())
        ],
        total_tokens=totals.total_tokens,
    )


def checkpoint_message(checkpoint: Checkpoint) -> session_pb2.Checkpoint:
    return cast(session_pb2.Checkpoint, codec_of(Checkpoint).encode(checkpoint))
