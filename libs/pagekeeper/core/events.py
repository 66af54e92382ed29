"""The events of a session.

One class per event of `event.proto`, with the same fields; `pagekeeper.runtime.codec` turns one into the other.
Events are facts in the past tense: applying one never fails, deciding whether it may happen is `decisions`' business.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from pagekeeper.core.pages import (
    RECALL_LIKELIHOOD_PERCENT,
    Extent,
    FaultReason,
    KeyValue,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)


class VMMode(StrEnum):
    STRICT = "strict"
    RELAXED = "relaxed"
    PASSIVE = "passive"


class PromptLayout(Enum):
    CACHE_STABLE = 1
    CLASSIC = 2


class DemandPaging(Enum):
    """The source of non-resident pages in a prompt: the model by its tools, the runtime by the user's words."""

    MODEL = "model"
    RUNTIME = "runtime"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings that the log carries, so that every replica decides alike. Units are in the names."""

    max_l0_tokens: int = 128_000
    reserved_tokens: int = 4_000
    eviction_threshold: float = 0.85
    target_utilization: float = 0.50
    max_faults_per_turn: int = 3
    max_fault_tokens_per_turn: int = 8_192
    pin_last_turns: int = 3
    fault_protection_turns: int = 2
    eviction_cooldown_turns: int = 3
    eviction_policy: str = "reuse/5"
    mode: VMMode = VMMode.STRICT
    layout: PromptLayout = PromptLayout.CACHE_STABLE
    model: str = "gpt-4o"
    ttl_seconds: int = 0
    demand_paging: DemandPaging = DemandPaging.HYBRID

    @property
    def limit_tokens(self) -> int:
        """The most tokens that resident pages may take together."""
        return self.max_l0_tokens - self.reserved_tokens


@dataclass(frozen=True, slots=True)
class SessionOpened:
    config: SessionConfig
    labels: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionConfigured:
    config: SessionConfig
    labels: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionClosed:
    pass


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    pass


class MappedPage(NamedTuple):
    """A version of a page, and the facts that come with it.

    A named tuple, because deciding an append makes each page three times over: a frozen dataclass takes ten times as
    long to replace.
    """

    page_id: str
    version: int
    modality: Modality
    page_type: PageType
    role: MessageRole
    trust: TrustClass
    hint: str
    importance: float
    pinned: bool
    full: StoredRepresentation
    links: tuple[PageLink, ...] = ()
    mime_type: str = ""
    tool_name: str = ""
    tool_call_id: str = ""
    media: MediaDescription | None = None
    metadata: tuple[KeyValue, ...] = ()
    recall_likelihood_percent: int = RECALL_LIKELIHOOD_PERCENT
    """0 to 100: how likely its words are asked for later."""
    speaker: str = ""
    said_unix_ms: int = 0

    @property
    def mapped_type(self) -> PageType:
        """The type that its line shows for as long as this version lives."""
        return self.page_type


@dataclass(frozen=True, slots=True)
class PagesMapped:
    pages: tuple[MappedPage, ...]


@dataclass(frozen=True, slots=True)
class PageAnnotation:
    """New facts; None keeps what is known, and an empty metadata value removes its key."""

    page_id: str
    hint: str | None = None
    page_type: PageType | None = None
    metadata: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class PagesAnnotated:
    annotations: tuple[PageAnnotation, ...]


@dataclass(frozen=True, slots=True)
class PageRelation:
    page_id: str
    link: PageLink


@dataclass(frozen=True, slots=True)
class PagesLinked:
    relations: tuple[PageRelation, ...]


@dataclass(frozen=True, slots=True)
class PagesUnmapped:
    page_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddedRepresentation:
    page_id: str
    version: int
    representation: StoredRepresentation


@dataclass(frozen=True, slots=True)
class RepresentationsAdded:
    representations: tuple[AddedRepresentation, ...]


@dataclass(frozen=True, slots=True)
class PlacedRepresentation:
    page_id: str
    version: int
    level: int
    extent: Extent


@dataclass(frozen=True, slots=True)
class PagesPlaced:
    placements: tuple[PlacedRepresentation, ...]


@dataclass(frozen=True, slots=True)
class CheckpointCreated:
    checkpoint_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CheckpointDeleted:
    checkpoint_id: str


@dataclass(frozen=True, slots=True)
class ArchiveSegment:
    """A run of log records that a snapshot replaced, and where they are.

    `request_hashes` are those of the requests that wrote the records, in order, while they are remembered
    (`pagekeeper.core.bookkeeping`). `last_written_unix_ms` is the time of the last record.
    """

    first_revision: int
    last_revision: int
    last_turn: int
    extent: Extent
    digest: bytes
    request_hashes: bytes = b""
    last_written_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class TurnBegun:
    pass


@dataclass(frozen=True, slots=True)
class PageAdmitted:
    page_id: str
    version: int
    level: int
    reason: FaultReason
    prefetched: bool = False


@dataclass(frozen=True, slots=True)
class PagesUsed:
    """Pages were requested while they were resident."""

    page_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PagesPinned:
    page_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PagesUnpinned:
    page_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportanceSet:
    page_id: str
    importance: float


@dataclass(frozen=True, slots=True)
class UsageReported:
    """A provider counted a prompt that was assembled here. The margin is not in `counted_tokens`."""

    family: str
    counted_tokens: int
    input_tokens: int


@dataclass(frozen=True, slots=True)
class PageVersion:
    page_id: str
    version: int
    importance: float


@dataclass(frozen=True, slots=True)
class RestoredResident:
    page_id: str
    version: int
    level: int
    faulted: bool


@dataclass(frozen=True, slots=True)
class WorkingSetRestored:
    checkpoint_id: str
    revision: int
    mapped: tuple[PageVersion, ...]
    resident: tuple[RestoredResident, ...]
    pinned_page_ids: tuple[str, ...]


Event = (
    SessionOpened
    | SessionConfigured
    | SessionClosed
    | SessionDeleted
    | PagesMapped
    | PagesAnnotated
    | PagesLinked
    | PagesUnmapped
    | RepresentationsAdded
    | PagesPlaced
    | CheckpointCreated
    | CheckpointDeleted
    | TurnBegun
    | PageAdmitted
    | PagesUsed
    | PagesPinned
    | PagesUnpinned
    | ImportanceSet
    | UsageReported
    | WorkingSetRestored
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Events that happened together, and the request that caused them.

    `fold_version` names the rules that they were decided by (`pagekeeper.core.fold_rules`); 0 when the writer's release
    had no name for them yet.
    """

    operation_id: str
    request_digest: bytes
    written_unix_ms: int
    events: tuple[Event, ...]
    fold_version: int = 0
