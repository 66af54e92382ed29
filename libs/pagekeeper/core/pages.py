"""Pages and what the log says of them.

Values only. A version's bytes never change: a page changes by getting another version, and a version by getting
representations or by its bytes moving from the log to the object store.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, Self, cast

from pagekeeper.core.reuse_counts import PageReuse

NAMES_SHARED_MAX: Final = 4_096


class Modality(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    STRUCTURED = "structured"


class PageType(StrEnum):
    TRANSCRIPT = "transcript"
    SUMMARY = "summary"
    ARTIFACT = "artifact"
    CLAIM = "claim"
    PROCEDURE = "procedure"
    INDEX = "index"


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"


class StorageTier(StrEnum):
    """Where a page is, from the prompt outwards."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"


class CompressionLevel(IntEnum):
    FULL = 0
    REDUCED = 1
    ABSTRACT = 2
    REFERENCE = 3


class TrustClass(IntEnum):
    """How far content may be trusted; a derived page is trusted as its least trusted parent."""

    TOOL = 1
    MODEL = 2
    USER = 3
    SYSTEM = 4


class FaultReason(StrEnum):
    USER_REQUESTED_RECALL = "user_requested_recall"
    RESOLVE_REFERENCE = "resolve_reference"
    TOOL_PREREQUISITE = "tool_prereq"
    SPECULATIVE = "speculative"


class LinkKind(Enum):
    DERIVED_FROM = 1
    REPRESENTS = 2
    REFERS_TO = 3
    SUPERSEDES = 4


@lru_cache(maxsize=NAMES_SHARED_MAX)
def _shared(name: str) -> str:
    """The one object for equal names, of which a session has thousands."""
    return name


TRUST_OF_ROLE = {
    MessageRole.TOOL: TrustClass.TOOL,
    MessageRole.ASSISTANT: TrustClass.MODEL,
    MessageRole.USER: TrustClass.USER,
    MessageRole.SYSTEM: TrustClass.SYSTEM,
}


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class PageLink:
    kind: LinkKind
    target_page_id: str


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """A medium's description for the model; sizes in pixels, lengths in seconds."""

    caption: str = ""
    transcript: str = ""
    width: int = 0
    height: int = 0
    duration_seconds: float = 0.0
    scenes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """A byte range of an immutable object."""

    object_key: str
    offset: int
    length: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "object_key", _shared(self.object_key))


@dataclass(frozen=True, slots=True)
class StoredRepresentation:
    """A version's bytes at one level: in the log (`inline`) or in the object store (`extent`), never both.

    `size_tokens` counts the page's whole line in a prompt, header and newline included, in the session's encoding.
    `preview_mime_type` is the content type of the picture that the bytes have beside their text (`previews`), or empty.
    """

    level: int
    size_tokens: int
    size_bytes: int
    digest: bytes
    compressor: str = ""
    inline: bytes | None = None
    extent: Extent | None = None
    preview_mime_type: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "compressor", _shared(self.compressor))
        if self.extent is not None and self.extent.length == self.size_bytes:
            object.__setattr__(self, "size_bytes", self.extent.length)

    @property
    def dirty(self) -> bool:
        return self.inline is not None

    def placed(self, extent: Extent) -> "StoredRepresentation":
        """The same bytes, in the object store. In half the time that `replace` takes."""
        return StoredRepresentation(
            self.level,
            self.size_tokens,
            self.size_bytes,
            self.digest,
            self.compressor,
            extent=extent,
            preview_mime_type=self.preview_mime_type,
        )


class PackedLevels(Sequence[StoredRepresentation]):
    """A version's representations, none with bytes in the log; each is made when it is asked for.

    What eviction asks of every page needs none of them.
    """

    __slots__ = ("full_size_tokens",)

    full_size_tokens: int

    @abstractmethod
    def shorter(self, level: int, size_tokens: int) -> tuple[int, int] | None: ...


class Version(NamedTuple):
    version: int
    mime_type: str
    media: MediaDescription | None
    mapped_type: PageType
    """The type its line shows and its tokens count; an annotation changes the page's type, not this."""
    trust: TrustClass
    speaker: str
    """The name of who says the page, which the line shows; empty for none."""
    said_unix_ms: int
    """When the page was said, in milliseconds since 1970, which the line shows; 0 for no time.

    The facts until here come with the mapping: `events.MappedPage` has them by these names.
    """
    revision: int
    turn: int
    """The turn in which the page was said."""
    created_unix_ms: int
    said_behind: int
    """Number of pages that the session had when the page was said again after it was dropped: its place is behind them.

    0 for a page that was said once, whose place is its own.
    """
    representations: Sequence[StoredRepresentation]
    """Ascending by level; the full one first and always there. A tuple or packed."""

    @property
    def full(self) -> StoredRepresentation:
        return self.representations[0]

    def at(self, level: int) -> StoredRepresentation | None:
        return next((r for r in self.representations if r.level == level), None)

    def nearest(self, target_level: int) -> StoredRepresentation:
        """The representation at `target_level`; else the nearest shorter one, and where there is none the shortest."""
        return next((r for r in self.representations if r.level >= target_level), self.representations[-1])

    def shorter(self, level: int, size_tokens: int) -> tuple[int, int] | None:
        """The next fidelity below `level` whose line is shorter, and its tokens.

        One made to be looked at may be longer.
        """
        levels = self.representations
        if isinstance(levels, tuple):
            lower = ((r.level, r.size_tokens) for r in levels if r.level > level and r.size_tokens < size_tokens)
            return next(lower, None)
        return cast(PackedLevels, levels).shorter(level, size_tokens)

    @property
    def dirty(self) -> bool:
        levels = self.representations
        return not isinstance(levels, PackedLevels) and any(r.dirty for r in levels)


RECALL_LIKELIHOOD_PERCENT: Final = 50
"""How likely, of 100, the words of a page are asked for later, when nobody has read them."""


class PageState(NamedTuple):
    """A page of a session: what the fold knows of it. A value: what changes is which one the session has."""

    page_id: str
    modality: Modality
    page_type: PageType
    role: MessageRole
    hint: str
    importance: float
    pinned: bool
    links: tuple[PageLink, ...]
    tool_name: str
    tool_call_id: str
    metadata: tuple[KeyValue, ...]
    recall_likelihood_percent: int
    """The facts until here come with the page's latest mapping: `events.MappedPage` has them by these names."""
    versions: tuple[Version, ...]
    current_version: int
    mapped: bool
    fault_count: int
    last_used_turn: int
    last_fault_turn: int
    reuse: PageReuse = PageReuse()

    @property
    def current(self) -> Version:
        return self.versions[self.current_version - 1]

    @property
    def kind(self) -> tuple[MessageRole, str]:
        """Pages of a kind are used again alike: who says it, and the tool that made it."""
        return (self.role, self.tool_name)

    @property
    def first_size_tokens(self) -> int:
        levels = self.versions[0].representations
        # What is no tuple is packed; to ask an abstract class takes longer, and each ranking asks of all residents.
        return levels[0].size_tokens if isinstance(levels, tuple) else cast(PackedLevels, levels).full_size_tokens

    def version(self, number: int) -> Version | None:
        return self.versions[number - 1] if 1 <= number <= len(self.versions) else None

    def with_representations(self, number: int, representations: Iterable[StoredRepresentation]) -> Self:
        """The page with these of a version that it has; ascending by level."""
        versions = list(self.versions)
        versions[number - 1] = versions[number - 1]._replace(representations=tuple(representations))
        return self._replace(versions=tuple(versions))

    @property
    def dirty(self) -> bool:
        return any(version.dirty for version in self.versions)

    @property
    def stored_tier(self) -> StorageTier:
        """Where its full bytes are, the prompt aside."""
        return StorageTier.L1 if self.current.full.dirty else StorageTier.L2
