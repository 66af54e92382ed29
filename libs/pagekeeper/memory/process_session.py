"""The work of a stack's services for one session, done in this process by the same decisions of the core.

Pages are appended, faulted in, searched and recalled, with nothing between the core and its caller but `SessionLog`.
Everything here is either the log, or derived from the state that the log folds to: the search index, the pages that a
prompt may offer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.demand_paging import RecalledPages, recalled_pages
from pagekeeper.core.effects import Evicted, RecordedEffect
from pagekeeper.core.embedding import Embedder
from pagekeeper.core.indexing import IndexUpkeep, text_of
from pagekeeper.core.lines import facts_of_mapped, facts_of_version, page_line
from pagekeeper.core.offering import Offering
from pagekeeper.core.pages import (
    FaultReason,
    PageState,
    StorageTier,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.search import EVERYTHING, SearchFilter
from pagekeeper.core.session import Session
from pagekeeper.core.shrinking import pages_to_compress
from pagekeeper.core.tools import FoundPage
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.runtime.tokens import (
    EncodingName,
    ModelTokens,
    for_model,
    tokenizer,
)

HITS_MAX: Final = 64
"""Uses of resident pages that wait for the next page fault, which takes them into the log; the oldest are forgotten."""

Compress = Callable[[PageState, Source], list[Compressed]]
"""The lower levels of a page that are worth having."""

_COMPRESSORS: Final = CompressorRegistry.default()


def compressed(_page: PageState, source: Source) -> list[Compressed]:
    """As a stack does it."""
    return _COMPRESSORS.compress_all(source, tokenizer(EncodingName.O200K_BASE).count)


@dataclass(frozen=True, slots=True)
class Faulted:
    """A page as it is in the prompt after a fault. `promoted` is False when it was there already."""

    page: PageState
    representation: StoredRepresentation
    source_tier: StorageTier
    promoted: bool
    evicted: tuple[str, ...] = ()


class ProcessSession:
    """`count` counts for the session instead of its model's tokenizer, where it is given.

    Without `compress`, the pages that are worth lower levels wait in `take_uncompressed` for whoever makes them.
    """

    def __init__(
        self,
        log: SessionLog,
        embedder: Callable[[], Embedder],
        compress: Compress | None = compressed,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self.log = log
        self._embedder = embedder
        self._compress = compress
        self._own_tokens = None if count is None else ModelTokens("own", _Counted(count), 100)
        self._indexed: IndexUpkeep | None = None
        self._offering = Offering()
        self._hits: list[str] = []
        self._uncompressed: dict[str, None] = {}

    @property
    def session(self) -> Session:
        return self.log.session

    @property
    def counts_for_itself(self) -> bool:
        """Whether an application's own tokenizer counts, whatever the model."""
        return self._own_tokens is not None

    @property
    def tokens(self) -> ModelTokens:
        """How the session's pages are counted."""
        return self._own_tokens or for_model(self.session.config.model)

    def count(self, text: str) -> int:
        return self.tokens.tokenizer.count(text)

    # Pages

    def append(self, *pages: NewPage) -> list[PageState]:
        """Map pages as one transaction, and make the lower levels that this made worth having.

        Raises PageExists, PageNotFound, PinBudgetExceeded, InvalidField: then nothing has changed.
        """
        event = decisions.map_pages(self.session, pages, self._line_tokens)
        effects = self.log.commit(event)
        compressible = pages_to_compress(self.session, effects)
        if compressible:
            self.compress(compressible)
        return [self.session.pages[page.page_id] for page in event.pages]

    def compress(self, page_ids: Sequence[str]) -> None:
        """Make the lower levels that these pages lack and that save tokens. Raises PageNotFound."""
        if self._compress is None:
            self._uncompressed.update(dict.fromkeys(page_ids))
            return
        pages = [decisions.known_page(self.session, page_id) for page_id in page_ids]
        self.add_levels([(page, made) for page in pages for made in self._compress(page, self._source(page))])

    def take_uncompressed(self) -> list[str]:
        """The pages that wait for lower levels; they wait no more."""
        waiting, self._uncompressed = list(self._uncompressed), {}
        return waiting

    def add_levels(self, made: Sequence[tuple[PageState, Compressed]]) -> None:
        """Add lower levels that were made of pages' current versions; those that a page has stay as they are."""
        added = [
            ev.AddedRepresentation(page.page_id, page.current_version, self._lower(page, lower)) for page, lower in made
        ]
        self.log.commit(decisions.add_representations(self.session, added))

    def text(self, page: PageState, level: int = 0) -> str:
        """Return the text of a page at a level, empty for a medium's own bytes. Raises KeyError without that level."""
        representation = page.current.at(level)
        if representation is None:
            raise KeyError(level)
        if level == 0 and page.current.media is not None:
            return ""
        return text_of(self.log.content(representation), representation)

    def line(self, page: PageState, level: int) -> str:
        """Return the page's line in prompts, at that level or else the nearest shorter one."""
        stored = page.current.nearest(level)
        return page_line(facts_of_version(page, page.current), stored.level, self.log.content(stored))

    def _source(self, page: PageState) -> Source:
        if page.current.media is not None:
            return Source(page.page_id, page.modality, media=page.current.media)
        return Source(page.page_id, page.modality, text=self.text(page))

    def _lower(self, page: PageState, made: Compressed) -> StoredRepresentation:
        stored = self.log.stored(made.text.encode(), made.level, made.compressor)
        facts = facts_of_version(page, page.current)
        return replace(stored, size_tokens=self.count(page_line(facts, made.level, made.text.encode())))

    def _line_tokens(self, mapped: ev.MappedPage, trust: TrustClass) -> int:
        return self.count(page_line(facts_of_mapped(mapped, trust), 0, self.log.content(mapped.full)))

    # Faults, and what is resident

    def fault(self, page_id: str, target_level: int, reason: FaultReason, *, prefetched: bool = False) -> Faulted:
        """Bring a page into the prompt; one that is there at that fidelity is used, and costs no fault.

        Raises PageNotFound, FaultLimitReached, FaultTokensExceeded, LevelUnavailable.
        """
        session = self.session
        page = decisions.known_page(session, page_id)
        source = session.tier(page)
        if decisions.resident_at(session, page, target_level) is not None:
            self._hits = [*self._hits, page_id][-HITS_MAX:]
            return self._faulted(page_id, StorageTier.L0, ())
        admitted = decisions.admit(session, page_id, target_level, reason, prefetched=prefetched)
        used, self._hits = decisions.use(session, self._hits), []
        return self._faulted(page_id, source, self.log.commit(used, admitted))

    def _faulted(self, page_id: str, source: StorageTier, effects: Sequence[RecordedEffect]) -> Faulted:
        page = self.session.pages[page_id]
        resident = self.session.working_set.get(page_id)
        assert resident is not None, "a fault that is not refused makes its page resident"
        representation = page.current.at(resident.level)
        assert representation is not None, "resident at a level that the page has not"
        evicted = tuple(effect.what.page_id for effect in effects if isinstance(effect.what, Evicted))
        return Faulted(page, representation, source, bool(effects), evicted)

    def lower(self, page_id: str, level: int) -> list[RecordedEffect]:
        """Have a resident page at a lower level that it has: a restore of the present with that."""
        now = decisions.restore(self.session, "")
        resident = tuple(replace(one, level=level) if one.page_id == page_id else one for one in now.resident)
        return self.log.commit(replace(now, resident=resident))

    def release(self, page_ids: Sequence[str]) -> list[RecordedEffect]:
        """Have these pages leave the prompt because the application says so: a restore of the present without them."""
        leaving = frozenset(page_ids)
        now = decisions.restore(self.session, "")
        return self.log.commit(replace(now, resident=tuple(r for r in now.resident if r.page_id not in leaving)))

    def restore(self, checkpoint_id: str) -> list[RecordedEffect]:
        """Go back to a checkpoint: what came later is unmapped. Raises CheckpointNotFound."""
        revision = decisions.known_checkpoint(self.session, checkpoint_id).revision
        return self.log.commit(decisions.restore(self.log.at_revision(revision), checkpoint_id))

    # Search

    def index(self) -> IndexUpkeep:
        """The search index at the session's revision."""
        if self._indexed is None:
            self._indexed = IndexUpkeep(self._embedder())
        indexed = self._indexed
        for page in indexed.due(self.session):
            indexed.put(page, "" if page.stored is None else text_of(self.log.content(page.stored), page.stored))
        indexed.reach(self.session.revision)
        return indexed

    def search(self, query: str, limit: int, where: SearchFilter = EVERYTHING) -> list[FoundPage]:
        """Return pages by relevance to words, in the prompt or not, the best first."""
        session = self.session
        return [
            FoundPage(
                page.page_id,
                page.modality,
                session.tier(page),
                tuple(level.level for level in page.current.representations),
                one.snippet or page.hint,
                one.relevance,
            )
            for one in self.index().index.search(query, limit=limit, where=where)
            if (page := session.page(one.page_id)) is not None
        ]

    def searched(self, where: SearchFilter) -> int:
        """How many pages could have been found."""
        pages = self.index().indexed
        if where.modality is None:
            return len(pages)
        return sum(self.session.pages[page_id].modality is where.modality for page_id in pages)

    def recall(self, words: str, room_tokens: int, *, residents_placed: bool) -> RecalledPages:
        """Select the pages that the words call for, of the whole session."""
        return recalled_pages(
            self.session, self.index().index, words, room_tokens=room_tokens, residents_placed=residents_placed
        )

    # Prompts

    def offering(self) -> Offering:
        self._offering.keep_up(self.session)
        return self._offering


class _Counted:
    """A tokenizer of the application's own."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count

    @property
    def name(self) -> str:
        return "own"

    def count(self, text: str) -> int:
        return self._count(text)
