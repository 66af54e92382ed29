"""A session: the fold of its log.

`Session.apply` is the whole state machine; what affects it lives here and in the values it is given. It reads no
clock, draws no random number and knows no setting that the log does not carry, so every replica that folded the same
records has the same state and made the same decisions, and a fold that stops early is the past.

Invariants, after every transaction:
- a resident page is mapped, and resident once, at a level that its version has;
- explicitly pinned pages and the application's own are never evicted;
- used tokens never exceed the limit unless what is protected does.

A transaction of rules or a policy that this release does not know is refused before anything changes. Any other that
`decisions` produced never raises. Folding does no I/O.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import Checkpoint, Operation, SessionState, forget_old_requests
from pagekeeper.core.effects import (
    Admitted,
    Compressed,
    Effect,
    Evicted,
    NotAdmitted,
    PressureChanged,
    RecordedEffect,
    TurnStarted,
)
from pagekeeper.core.fold_rules import FoldRules, fold_rules
from pagekeeper.core.folded_state import FoldedState
from pagekeeper.core.pages import (
    Extent,
    FaultReason,
    KeyValue,
    MessageRole,
    PageState,
    StoredRepresentation,
    Version,
)
from pagekeeper.core.policies import logged_policy
from pagekeeper.core.reuse_counts import KindCounts, SessionReuse
from pagekeeper.core.session_pages import SessionPages
from pagekeeper.core.usage import with_report
from pagekeeper.core.working_set import Resident, WorkingSet

OPERATIONS_MAX: Final = 512
"""Requests remembered in the state, so that a retry is answered alike: it mostly comes within seconds. Older requests
are found in the archive (`pagekeeper.runtime.request_memory`)."""
COMPRESS_BELOW: Final = 0.6
"""Going down a level must save at least the rest, else the page leaves: a small saving breaks the prompt's prefix
for nothing."""


def _facts_of_mapping(fields: Sequence[str]) -> Callable[[ev.MappedPage], tuple[Any, ...]]:
    """Values of the fields that a mapped page has too, which are the first ones of a page and of a version."""
    names = [name for name in fields if hasattr(ev.MappedPage, name)]
    if names != [*fields[: len(names)]]:
        raise TypeError(f"{names} come with the mapping and must be the first of {fields}")
    return attrgetter(*names)


_page_facts: Final = _facts_of_mapping(PageState._fields)
_version_facts: Final = _facts_of_mapping(Version._fields)
_new_page: Final[Callable[..., PageState]] = PageState
_new_version: Final[Callable[..., Version]] = Version


class Session(FoldedState):
    """The state and its transitions: mutated by `apply` and `roll_up` alone."""

    def apply(self, revision: int, transaction: ev.Transaction) -> list[RecordedEffect]:
        """Fold one transaction and return what it did to the working set, in order.

        Raises ReleaseTooOld, before anything has changed, when the transaction names rules or a policy that this
        release does not know.
        """
        rules = _known_rules(transaction)
        newer_rules = rules.version > self.fold_version
        self.fold_version = max(self.fold_version, rules.version)
        pressure_before, turn = self.pressure(), self.turn
        effects: list[Effect] = []
        self.updated_unix_ms = transaction.written_unix_ms
        for event in transaction.events:
            effects += self._apply_event(revision, transaction.written_unix_ms, event, rules)
        changed = self.changes.note(revision, transaction.events, effects, self.pages.at_hand, newer_rules=newer_rules)
        self.pages.settle(self.pages if changed is None else changed, self.working_set)
        self.revision = revision
        self._remember(Operation(transaction.operation_id, transaction.request_digest, revision))
        pressure_after = self.pressure()
        if pressure_after is not pressure_before:
            effects.append(PressureChanged(pressure_before, pressure_after))
        return [RecordedEffect(what, revision, turn := turn + isinstance(what, TurnStarted)) for what in effects]

    def roll_up(self, revision: int, archived: ev.ArchiveSegment) -> None:
        """Pass a snapshot that folded exactly this state: nothing changes but the position and where history is.

        Requests that were archived long ago are forgotten.
        """
        self.archive.append(archived)
        forget_old_requests(self.archive)
        self.revision = revision

    def _apply_event(  # noqa: C901, PLR0912 - the table of the state machine
        self, revision: int, unix_ms: int, event: ev.Event, rules: FoldRules
    ) -> Sequence[Effect]:
        match event:
            case ev.SessionOpened(config, labels):
                self.exists, self.created_unix_ms = True, unix_ms
                self.config, self.labels = config, labels
            case ev.SessionConfigured(config, labels):
                self.config, self.labels = config, labels
                self.hold_residents()
                return self._make_room(0)
            case ev.SessionClosed():
                self.state = SessionState.CLOSED
            case ev.SessionDeleted():
                self._forget_everything()
            case ev.PagesMapped(pages):
                return self._map_all(revision, unix_ms, pages, rules)
            case ev.PagesAnnotated(annotations):
                for annotation in annotations:
                    self._annotate(annotation)
            case ev.PagesLinked(relations):
                for relation in relations:
                    page = self.pages[relation.page_id]
                    if relation.link not in page.links:
                        self._put(page._replace(links=(*page.links, relation.link)))
            case ev.PagesUnmapped(page_ids):
                return [what for page_id in page_ids for what in self._unmap(page_id)]
            case ev.RepresentationsAdded(representations):
                for (page_id, number), of_version in groupby(representations, attrgetter("page_id", "version")):
                    self._represent(page_id, number, [added.representation for added in of_version])
            case ev.PagesPlaced(placements):
                for (page_id, number), there in groupby(placements, attrgetter("page_id", "version")):
                    self._place(page_id, number, [(placed.level, placed.extent) for placed in there])
            case ev.CheckpointCreated(checkpoint_id, name):
                self.checkpoints[checkpoint_id] = Checkpoint(
                    checkpoint_id=checkpoint_id,
                    name=name,
                    revision=self.revision,
                    turn=self.turn,
                    page_count=self.pages.mapped_total,
                    used_tokens=self.working_set.used_tokens,
                    created_unix_ms=unix_ms,
                )
            case ev.CheckpointDeleted(checkpoint_id):
                self.checkpoints.pop(checkpoint_id, None)
            case ev.TurnBegun():
                return self._begin_turn()
            case ev.PageAdmitted():
                return self._fault_in(event)
            case ev.PagesUsed(page_ids):
                for page_id in page_ids:
                    self._put(self._used_again(self.pages[page_id]))
            case ev.PagesPinned(page_ids):
                for page_id in page_ids:
                    self._put(self.pages[page_id]._replace(pinned=True))
            case ev.PagesUnpinned(page_ids):
                for page_id in page_ids:
                    self._put(self.pages[page_id]._replace(pinned=False))
                return self._make_room(0)
            case ev.ImportanceSet(page_id, importance):
                self._put(self.pages[page_id]._replace(importance=importance))
            case ev.UsageReported(family, counted, given):
                self.usage[family] = with_report(self.usage.get(family), family, counted, given)
            case ev.WorkingSetRestored():
                return self._restore(event)
        return ()

    def _forget_everything(self) -> None:
        self.exists = False
        self.pages, self.working_set, self.labels = SessionPages(), WorkingSet(turn=self.turn), ()
        self.checkpoints, self.recent_evictions = {}, {}
        self.reuse, self.kinds = SessionReuse(), KindCounts()

    def _map_all(
        self, revision: int, unix_ms: int, pages: Sequence[ev.MappedPage], rules: FoldRules
    ) -> Sequence[Effect]:
        effects: list[Effect] = []
        if rules.room_once_an_event and len(pages) > 1:
            effects += self._make_room(sum(page.full.size_tokens for page in pages))
        for page in pages:
            effects += self._map(revision, unix_ms, page, rules)
        return effects

    def _map(self, revision: int, unix_ms: int, mapped: ev.MappedPage, rules: FoldRules) -> Iterator[Effect]:
        known = self.pages.get(mapped.page_id)
        anew = rules.versions_stay and known is not None and not known.mapped
        before = None if anew else known
        stays = before.current if rules.versions_stay and before is not None else None
        if mapped.role is MessageRole.USER and stays is None:
            yield from self._begin_turn()
        version = _new_version(
            *_version_facts(mapped),
            revision=revision,
            turn=self.turn if stays is None else stays.turn,
            created_unix_ms=unix_ms,
            said_behind=len(self.pages) if anew else 0 if stays is None else stays.said_behind,
            representations=(mapped.full,),
        )
        page = _new_page(
            *_page_facts(mapped),
            versions=(version,) if known is None else (*known.versions, version),
            current_version=mapped.version,
            mapped=True,
            fault_count=before.fault_count if before else 0,
            last_used_turn=self.turn,
            last_fault_turn=0,
            reuse=before.reuse if before else self.reuse.first(self.policy.learning),
        )
        if known is not None:
            self.kinds.remove(known.kind, known.first_size_tokens, known.reuse)
        self.kinds.add(page.kind, page.first_size_tokens, page.reuse)
        self._put(page if before is None else self._used_again(page))
        self.working_set.remove(mapped.page_id)
        yield from self._admit(page, mapped.full, faulted=False)

    def _put(self, page: PageState) -> None:
        """Have this page from now on, and held by what it says now if it is resident."""
        self.pages.put(page)
        if page.page_id in self.working_set:
            self.working_set.hold(page.page_id, self.hold_of(page))

    def _used_again(self, page: PageState) -> PageState:
        if not page.reuse.count:
            self.kinds.reused(page.kind, page.first_size_tokens)
        return page._replace(last_used_turn=self.turn, reuse=self.reuse.again(page.reuse, self.policy.learning))

    def _begin_turn(self) -> Sequence[Effect]:
        self.turn += 1
        self.working_set.begin_turn(self.turn)
        self.counters.faults_this_turn = self.counters.fault_tokens_this_turn = 0
        oldest = self.turn - self.config.eviction_cooldown_turns
        for page_id in [page_id for page_id, turn in self.recent_evictions.items() if turn < oldest]:
            del self.recent_evictions[page_id]
        return (TurnStarted(),)

    def _annotate(self, annotation: ev.PageAnnotation) -> None:
        page = self.pages[annotation.page_id]
        merged = {kv.key: kv.value for kv in (*page.metadata, *annotation.metadata)}
        annotated = page._replace(
            hint=page.hint if annotation.hint is None else annotation.hint,
            page_type=page.page_type if annotation.page_type is None else annotation.page_type,
            metadata=tuple(KeyValue(key, merged[key]) for key in sorted(merged) if merged[key]),
        )
        self._put(annotated)

    def _unmap(self, page_id: str) -> Sequence[Effect]:
        self._put(self.pages[page_id]._replace(mapped=False, pinned=False))
        self.recent_evictions.pop(page_id, None)
        resident = self.working_set.remove(page_id)
        return (Evicted(page_id, resident.size_tokens),) if resident else ()

    def _represent(self, page_id: str, number: int, added: Sequence[StoredRepresentation]) -> None:
        page = self.pages[page_id]
        by_level = {r.level: r for r in (*reversed(added), *page.versions[number - 1].representations)}
        self._put(page.with_representations(number, [by_level[level] for level in sorted(by_level)]))

    def _place(self, page_id: str, number: int, placed: Sequence[tuple[int, Extent]]) -> None:
        page = self.pages[page_id]
        by_level = dict(reversed(placed))
        representations = [
            r.placed(by_level[r.level]) if r.dirty and r.level in by_level else r
            for r in page.versions[number - 1].representations
        ]
        self._put(page.with_representations(number, representations))

    def _fault_in(self, admitted: ev.PageAdmitted) -> Sequence[Effect]:
        page = self.pages[admitted.page_id]
        representation = page.versions[admitted.version - 1].at(admitted.level)
        assert representation is not None, "admitted at a level that the page has not"
        page = page._replace(last_used_turn=self.turn, last_fault_turn=self.turn, fault_count=page.fault_count + 1)
        self._put(page if admitted.reason is FaultReason.SPECULATIVE else self._used_again(page))
        if not admitted.prefetched:
            self.counters.faults_this_turn += 1
            self.counters.fault_tokens_this_turn += representation.size_tokens
        self.faults_by_reason[admitted.reason] = self.faults_by_reason.get(admitted.reason, 0) + 1
        return list(self._admit(page, representation, faulted=True))

    def _admit(self, page: PageState, representation: StoredRepresentation, *, faulted: bool) -> Iterator[Effect]:
        self.working_set.remove(page.page_id)
        size = representation.size_tokens
        yield from self._make_room(size)
        room = self.config.limit_tokens - self.working_set.used_tokens
        if size > room:
            yield NotAdmitted(page.page_id, size, room)
            return
        thrash = self.recent_evictions.pop(page.page_id, None) is not None and faulted
        if thrash:
            self.counters.thrash_faults_total += 1
        self.working_set.append(
            Resident(page.page_id, page.current_version, representation.level, size, faulted, self.turn),
            self.hold_of(self.pages.at_hand[page.page_id]),
        )
        yield Admitted(page.page_id, representation.level, size, faulted, thrash)

    def _make_room(self, incoming_tokens: int) -> list[Effect]:
        """When `incoming_tokens` would cross the high watermark, free down to the low one.

        In batches between two watermarks, because every eviction breaks the prompt's prefix for the provider's
        cache. What does not fit at all is not made room for: it would empty the working set for nothing. Protected
        pages give way only when the limit itself would be crossed, then down to the high watermark.
        """
        limit = self.config.limit_tokens
        high = int(limit * self.config.eviction_threshold)
        fits = self.working_set.used_tokens + incoming_tokens <= high
        if fits or incoming_tokens > max(0, limit - self.pinned_tokens()):
            return []
        low = int(limit * self.config.target_utilization)
        must = max(0, high - incoming_tokens)
        effects = self._free_down_to(max(0, low - incoming_tokens), must, protected=False)
        if self.working_set.used_tokens + incoming_tokens > limit:
            effects += self._free_down_to(must, must, protected=True)
        return effects

    def _free_down_to(self, used_tokens: int, must_tokens: int, *, protected: bool) -> list[Effect]:
        """Ask pages that are protected, or those that are not, until no more than `used_tokens` are used.

        Below `must_tokens` the batch ends at the first page that the policy takes to be in use: one that was used
        again and is worth `batch_value_ratio` times the last page that had to go. A page that went down a level is
        asked again only when all others of its kind have been.
        """
        used = self.working_set.used_tokens
        ratio = self.policy.batch_value_ratio
        enough: float | None = None
        effects: list[Effect] = []
        while used > used_tokens:
            ranked = self._ranked(protected=protected)
            if not ranked:
                break
            for value, resident in ranked:
                in_use = enough is not None and value >= enough and self.pages.at_hand[resident.page_id].reuse.count > 0
                if used <= used_tokens or (used <= must_tokens and in_use):
                    return effects
                if used > must_tokens and ratio is not None:
                    enough = ratio * value
                what = self._give_up(resident)
                used -= what.freed_tokens if isinstance(what, Compressed) else what.size_tokens
                effects.append(what)
        return effects

    def _give_up(self, resident: Resident) -> Compressed | Evicted:
        version = self.pages.at_hand[resident.page_id].versions[resident.version - 1]
        held = resident.level, resident.size_tokens
        level, size_tokens = version.shorter(*held) or held
        if size_tokens < resident.size_tokens * COMPRESS_BELOW:
            self.working_set.replace(resident.at(level, size_tokens))
            self.counters.compressions_total += 1
            return Compressed(resident.page_id, resident.level, level, resident.size_tokens - size_tokens)
        self.working_set.remove(resident.page_id)
        self.recent_evictions.pop(resident.page_id, None)
        self.recent_evictions[resident.page_id] = self.turn
        self.counters.evictions_total += 1
        return Evicted(resident.page_id, resident.size_tokens)

    def _restore(self, restored: ev.WorkingSetRestored) -> Sequence[Effect]:
        before = {r.page_id: r for r in self.working_set}
        mapped = {page.page_id: page for page in restored.mapped}
        resident_ids = frozenset(resident.page_id for resident in restored.resident)
        pinned = frozenset(restored.pinned_page_ids)
        for page_id, page in self.pages.items():
            then = mapped.get(page_id, ev.PageVersion(page_id, page.current_version, page.importance))
            changed = page._replace(
                mapped=page_id in mapped,
                pinned=page_id in pinned,
                current_version=then.version,
                importance=then.importance,
            )
            if changed != page or page_id in resident_ids:
                self._put(changed)
        self.working_set = WorkingSet(turn=self.turn)
        effects: list[Effect] = []
        for resident in restored.resident:
            page = self.pages[resident.page_id]
            representation = page.versions[resident.version - 1].at(resident.level)
            assert representation is not None, "restored at a level that the page has not"
            size = representation.size_tokens
            self.working_set.append(
                Resident(resident.page_id, resident.version, resident.level, size, resident.faulted, self.turn),
                self.hold_of(page),
            )
            was = before.get(resident.page_id)
            if was is None or was.version != resident.version or was.level > resident.level or was.size_tokens < size:
                effects.append(Admitted(resident.page_id, resident.level, size, resident.faulted, thrash=False))
            elif was.level < resident.level:
                effects.append(Compressed(resident.page_id, was.level, resident.level, was.size_tokens - size))
        effects += [Evicted(r.page_id, r.size_tokens) for r in before.values() if r.page_id not in self.working_set]
        self.recent_evictions = {}
        return [*effects, *self._make_room(0)]

    def _remember(self, operation: Operation) -> None:
        self.operations[operation.operation_id] = operation
        while len(self.operations) > OPERATIONS_MAX:
            del self.operations[next(iter(self.operations))]


def _known_rules(transaction: ev.Transaction) -> FoldRules:
    """The rules that the transaction was decided by. Raises ReleaseTooOld, also for a policy that it configures."""
    for event in transaction.events:
        if isinstance(event, ev.SessionOpened | ev.SessionConfigured):
            logged_policy(event.config.eviction_policy)
    return fold_rules(transaction.fold_version)
