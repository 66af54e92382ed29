"""A session against plain dictionaries, over random histories: whatever is asked of it, in whatever order."""

from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import NotAdmitted, Pressure, RecordedEffect, decisions_digest
from pagekeeper.core.errors import (
    CheckpointExists,
    CheckpointNotFound,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
    PageExists,
    PagekeeperError,
    PageNotFound,
    PinBudgetExceeded,
)
from pagekeeper.core.fold_rules import fold_rules
from pagekeeper.core.pages import (
    Extent,
    FaultReason,
    LinkKind,
    PageLink,
    PageType,
)
from pagekeeper.core.session import Session
from pagekeeper.core.session_pages import SessionPages
from pagekeeper.runtime import codec
from pagekeeper.runtime.views import page_message
from pagekeeper.v1 import event_pb2
from tests.model.dictionary import DictionarySession
from tests.model.drafts import Draft, configs, drafts, importances, new_page, stored

CHECKPOINT_IDS = ["c0", "c1", "c2"]
UNKNOWN = "unknown"
SHOWN_EVERY = 8
LADDERS = [{1: 40, 2: 15, 3: 5}, {1: 70, 3: 4}, {2: 10}, {1: 100}, {1: 140, 2: 110, 3: 30}]
"""Percent of the full tokens that representations by level take."""

choices = st.integers(0, 99)
"""One of the pages that there are by then, or one that there is not."""


class Histories(RuleBasedStateMachine):
    """Every rule asks for something, and expects it to happen or to be refused without a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.model = DictionarySession(ev.SessionConfig())
        self.records: list[tuple[int, bytes | ev.ArchiveSegment]] = []
        self.decided: list[RecordedEffect] = []
        self.past: dict[int, DictionarySession] = {}
        self.shown: dict[str, bytes] = {}
        self.shown_revision = 0

    # Carrying out

    def commit(self, event: ev.Event) -> list[RecordedEffect]:
        """Write, read and fold an event, as a replica does."""
        number = len(self.records) + 1
        digest = sha256(str(number).encode()).digest()
        written = decisions.transaction(self.session, f"request-{number}", digest, number * 1_000, (event,))
        data = codec.encode_transaction(written)
        read = codec.decode_transaction(event_pb2.LogRecord.FromString(data).transaction)
        assert read == written
        # Revisions grow and leave gaps: other sessions share the stream.
        revision = self.session.revision + 1 + number % 3
        self.model.versions_stay = fold_rules(read.fold_version).versions_stay
        happenings = self.session.apply(revision, read)
        self.records.append((revision, data))
        self.decided += happenings
        assert all(happening.revision == revision for happening in happenings)
        return happenings

    def attempt(
        self, decide: Callable[[], ev.Event | None], *refusals: type[PagekeeperError]
    ) -> tuple[ev.Event, list[RecordedEffect]] | None:
        """What was decided and what it did; None when it was refused for one of these reasons, or needs no event."""
        try:
            event = decide()
        except refusals:
            return None
        return None if event is None else (event, self.commit(event))

    def folded(
        self, until: int | None = None, *, snapshots_every: int = 0, packing: bool = True
    ) -> tuple[Session, list[RecordedEffect]]:
        """The same log folded again, up to a revision; perhaps with states between written out and read back."""
        session, decided = Session(), []
        if not packing:
            session.pages = AllAtHand()
        for position, (revision, record) in enumerate(self.records):
            if until is not None and revision > until:
                break
            if isinstance(record, bytes):
                transaction = codec.decode_transaction(event_pb2.LogRecord.FromString(record).transaction)
                decided += session.apply(revision, transaction)
            else:
                session.roll_up(revision, record)
            if snapshots_every and position % snapshots_every == 0:
                session = through_bytes(session)
        return session, decided

    # Asking

    def choose(self, choice: int) -> str:
        known = [UNKNOWN, *self.model.pages]
        return known[choice % len(known)]

    @initialize(config=configs)
    def open(self, config: ev.SessionConfig) -> None:
        self.commit(decisions.open_session(self.session, "s", config, ()))
        self.model.config = config

    @rule(some=st.lists(drafts, min_size=1, max_size=4))
    def append_pages(self, some: list[Draft]) -> None:
        """Whose ids the session makes."""
        self.map_pages([new_page("", draft) for draft in some])

    @rule(first=drafts, second=drafts, page=choices, parent=choices)
    def append_version(self, first: Draft, second: Draft, page: int, parent: int) -> None:
        """With another page before it, which may push the version before out, or be what it is made from."""
        fresh = f"named-{len(self.model.pages)}"
        page_id = self.choose(page)
        known = self.model.pages.get(page_id)
        again = replace(second, role=known.role) if known is not None else second
        parent_id = fresh if parent % 2 else self.choose(parent)
        self.map_pages([new_page(fresh, first), new_page(page_id, again, parent_id, new_version=known is not None)])

    def map_pages(self, pages: list[decisions.NewPage]) -> None:
        outcome = self.attempt(
            lambda: decisions.map_pages(self.session, pages, lambda mapped, _trust: mapped.full.size_tokens),
            PageExists, PageNotFound, PinBudgetExceeded, InvalidField,
        )  # fmt: skip
        if outcome is None:
            return
        event, happenings = outcome
        assert isinstance(event, ev.PagesMapped)
        self.model.map(event.pages, happenings)

    @rule(page=choices, level=st.integers(0, 3), prefetched=st.booleans(), reason=st.sampled_from(FaultReason))
    def fault(self, page: int, level: int, reason: FaultReason, *, prefetched: bool) -> None:
        """Mostly of what is not resident, or at a lower fidelity."""
        absent = [page_id for page_id in self.model.pages if self.model.says_less(page_id, level)]
        page_id = absent[page % len(absent)] if absent and page % 5 else self.choose(page)
        counted = (self.model.faults_this_turn, self.model.fault_tokens_this_turn)
        known = self.model.pages.get(page_id)
        is_wanted = known is None or not known.mapped or self.model.says_less(page_id, level)
        outcome = self.attempt(
            lambda: decisions.admit(self.session, page_id, level, reason, prefetched=prefetched),
            PageNotFound, FaultLimitReached, FaultTokensExceeded, LevelUnavailable,
        )  # fmt: skip
        if outcome is None:
            return
        event, happenings = outcome
        assert is_wanted
        assert isinstance(event, ev.PageAdmitted)
        assert not any(isinstance(happening.what, NotAdmitted) for happening in happenings)
        self.model.hear(happenings)
        sizes = self.model.pages[page_id].sizes[event.version - 1]
        tokens = sizes[event.level]
        assert event.level == max(at for at in sizes if at <= level)
        assert list(self.model.resident)[-1] == page_id
        assert self.model.resident[page_id] == (event.level, tokens)
        if not prefetched:
            self.model.faults_this_turn += 1
            self.model.fault_tokens_this_turn += tokens
            assert counted[0] < self.model.config.max_faults_per_turn
            assert self.model.fault_tokens_this_turn <= self.model.config.max_fault_tokens_per_turn

    @rule(some=st.lists(choices, min_size=1, max_size=3))
    def use(self, some: list[int]) -> None:
        """What is resident is used, and nothing moves."""
        page_ids = [self.choose(choice) for choice in some]
        outcome = self.attempt(lambda: decisions.use(self.session, page_ids))
        resident = [page_id for page_id in page_ids if page_id in self.model.resident]
        assert outcome == ((ev.PagesUsed(tuple(resident)), []) if resident else None)

    @rule()
    def begin_turn(self) -> None:
        self.commit(ev.TurnBegun())
        self.model.begin_turn()

    @rule(some=st.lists(choices, min_size=1, max_size=3))
    def pin(self, some: list[int]) -> None:
        page_ids = [self.choose(choice) for choice in some]
        if self.attempt(lambda: decisions.pin(self.session, page_ids), PageNotFound, PinBudgetExceeded):
            for page_id in page_ids:
                self.model.pages[page_id].pinned = True

    @rule(some=st.lists(choices, min_size=1, max_size=3))
    def unpin(self, some: list[int]) -> None:
        page_ids = [self.choose(choice) for choice in some]
        outcome = self.attempt(lambda: decisions.unpin(self.session, page_ids), PageNotFound)
        if outcome is not None:
            for page_id in page_ids:
                self.model.pages[page_id].pinned = False
            self.model.hear(outcome[1])

    @rule(page=choices, importance=importances)
    def set_importance(self, page: int, importance: float) -> None:
        page_id = self.choose(page)
        if self.attempt(lambda: decisions.set_importance(self.session, page_id, importance), PageNotFound):
            self.model.pages[page_id].importance = importance

    @rule(family=st.sampled_from(["claude", "other"]), input_tokens=st.integers(250, 4_000))
    def report_usage(self, family: str, input_tokens: int) -> None:
        self.attempt(lambda: decisions.report_usage(self.session, family, 1_000, input_tokens))

    @rule(page=choices, page_type=st.sampled_from(PageType))
    def annotate(self, page: int, page_type: PageType) -> None:
        annotation = ev.PageAnnotation(self.choose(page), page_type=page_type)
        self.attempt(lambda: decisions.annotate(self.session, annotation), PageNotFound)

    @rule(page=choices, mentioned=choices)
    def link(self, page: int, mentioned: int) -> None:
        links = [PageLink(LinkKind.REFERS_TO, self.choose(mentioned))]
        self.attempt(lambda: decisions.link(self.session, self.choose(page), links), PageNotFound)

    @rule(some=st.lists(choices, min_size=1, max_size=2))
    def drop(self, some: list[int]) -> None:
        page_ids = [self.choose(choice) for choice in some]
        outcome = self.attempt(lambda: decisions.unmap(self.session, page_ids), PageNotFound)
        if outcome is not None:
            self.model.hear(outcome[1], voluntary=frozenset(page_ids))
            for page_id in page_ids:
                self.model.unmap(page_id)

    @rule(some=st.sets(choices, min_size=1, max_size=8), levels=st.sampled_from(LADDERS))
    def represent(self, some: set[int], levels: dict[int, int]) -> None:
        """As the compressors do, for pages that are resident and others."""
        page_ids = sorted({self.choose(choice) for choice in some} - {UNKNOWN})
        added = []
        for page_id in page_ids:
            known = self.model.pages[page_id]
            full_tokens = known.sizes[known.current - 1][0]
            for level, percent in levels.items():
                representation = stored(page_id, level, max(1, full_tokens * percent // 100))
                added.append(ev.AddedRepresentation(page_id, known.current, representation))
        if self.attempt(lambda: decisions.add_representations(self.session, added), PageNotFound):
            for one in added:
                known, representation = self.model.pages[one.page_id], one.representation
                sizes = known.sizes[known.current - 1]
                if representation.level not in sizes:
                    sizes[representation.level] = representation.size_tokens
                    known.dirty.add((known.current, representation.level))

    @rule(some=st.sets(choices))
    def place(self, some: set[int]) -> None:
        """Write-back: also of pages that were dropped."""
        chosen = {self.choose(choice) for choice in some}
        dirty = [
            (page_id, version, level)
            for page_id, page in self.model.pages.items()
            for version, level in sorted(page.dirty)
            if page_id in chosen
        ]
        placements = [ev.PlacedRepresentation(*where, Extent("t/segment", 0, 1)) for where in dirty]
        if self.attempt(lambda: decisions.place(self.session, placements)):
            for page_id, version, level in dirty:
                self.model.pages[page_id].dirty.remove((version, level))

    @rule(config=configs)
    def configure(self, config: ev.SessionConfig) -> None:
        outcome = self.attempt(lambda: decisions.configure(self.session, config, ()))
        if outcome is not None:
            self.model.config = config
            self.model.hear(outcome[1])

    @rule(checkpoint_id=st.sampled_from(CHECKPOINT_IDS))
    def create_checkpoint(self, checkpoint_id: str) -> None:
        revision = self.session.revision
        if self.attempt(lambda: decisions.create_checkpoint(self.session, checkpoint_id, ""), CheckpointExists):
            self.model.checkpoints[checkpoint_id] = revision

    @rule(checkpoint_id=st.sampled_from(CHECKPOINT_IDS))
    def delete_checkpoint(self, checkpoint_id: str) -> None:
        if self.attempt(lambda: decisions.delete_checkpoint(self.session, checkpoint_id), CheckpointNotFound):
            del self.model.checkpoints[checkpoint_id]

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """To any revision, and mostly to those that have a name."""
        named = sorted(set(self.model.checkpoints.values()) & set(self.past))
        revision = data.draw(st.sampled_from(named or sorted(self.past)))
        then, _ = self.folded(until=revision)
        happenings = self.commit(decisions.restore(then, ""))
        past = self.past[revision]
        leaving = frozenset(self.model.resident) - frozenset(past.resident)
        self.model.restore(past)
        self.model.hear(happenings, voluntary=leaving)
        order = [resident.page_id for resident in self.session.working_set]
        assert order == [page_id for page_id in past.resident if page_id in self.model.resident]
        self.model.resident = {page_id: self.model.resident[page_id] for page_id in order}
        if past.used_tokens <= self.model.config.limit_tokens * self.model.config.eviction_threshold:
            assert self.model.resident == past.resident

    @rule()
    def snapshot(self) -> None:
        """The records so far are replaced by the state they fold to."""
        revision = self.session.revision + 1
        segment = ev.ArchiveSegment(1, self.session.revision, self.session.turn, Extent("t/history", 0, 1), b"digest")
        self.session = through_bytes(self.session)
        self.session.roll_up(revision, segment)
        self.records.append((revision, segment))

    # Holding

    @invariant()
    def it_is_what_the_dictionaries_say(self) -> None:
        session, model = self.session, self.model
        assert set(session.pages) == set(model.pages)
        for page_id, known in model.pages.items():
            page = session.pages[page_id]
            assert (page.mapped, page.pinned, page.importance) == (known.mapped, known.pinned, known.importance)
            assert page.current_version == known.current
            assert [
                {r.level: r.size_tokens for r in version.representations} for version in page.versions
            ] == known.sizes
            assert {(v.version, r.level) for v in page.versions for r in v.representations if r.dirty} == known.dirty
        assert (session.turn, session.config) == (model.turn, model.config)
        assert session.counters.faults_this_turn == model.faults_this_turn
        assert session.counters.fault_tokens_this_turn == model.fault_tokens_this_turn
        assert session.counters.thrash_faults_total == model.thrash_faults
        assert session.thrash_index == model.thrash_faults / max(4, session.faults_total)
        assert {c.checkpoint_id: c.revision for c in session.checkpoints.values()} == model.checkpoints
        self.past[session.revision] = model.copy()

    @invariant()
    def the_happenings_tell_what_is_resident(self) -> None:
        resident = {r.page_id: (r.level, r.size_tokens) for r in self.session.working_set}
        assert list(resident.items()) == list(self.model.resident.items())

    @invariant()
    def what_is_resident_is_mapped_and_has_that_level(self) -> None:
        for resident in self.session.working_set:
            page = self.session.page(resident.page_id)
            assert page is not None
            assert resident.version == page.current_version
            representation = page.current.at(resident.level)
            assert representation is not None
            assert representation.size_tokens == resident.size_tokens

    @invariant()
    def what_is_neither_resident_nor_dirty_is_packed(self) -> None:
        resident = {resident.page_id for resident in self.session.working_set}
        dirty = {page_id for page_id, page in self.model.pages.items() if page.dirty}
        assert set(self.session.pages.at_hand) == resident | dirty
        assert [page.page_id for page in self.session.pages.dirty()] == [i for i in self.model.pages if i in dirty]
        assert self.session.pages.mapped_total == sum(page.mapped for page in self.model.pages.values())

    @invariant()
    def used_tokens_are_the_sum_and_within_the_limit(self) -> None:
        used = self.session.working_set.used_tokens
        assert used == self.model.used_tokens
        assert used <= self.model.config.limit_tokens or used == self.model.pinned_tokens
        assert (self.session.pressure() is Pressure.LOW) == (
            used <= self.model.config.limit_tokens * self.model.config.target_utilization
        )

    @invariant()
    def held_tokens_are_the_sums_over_the_residents(self) -> None:
        session, working_set = self.session, self.session.working_set
        pages = {resident: session.pages[resident.page_id] for resident in working_set}
        protected = [resident for resident, page in pages.items() if session.is_protected(page)]
        pinned = [resident for resident, page in pages.items() if session.is_pinned(page)]
        assert working_set.pinned_tokens == sum(resident.size_tokens for resident in pinned)
        assert working_set.protected_tokens == sum(resident.size_tokens for resident in protected)
        assert working_set.all_protected == (len(protected) == len(working_set))
        unprotected = {resident.page_id for resident in session.unprotected()}
        assert unprotected == {resident.page_id for resident in pages} - {resident.page_id for resident in protected}

    @invariant()
    def what_is_derived_can_be_kept_up_from_the_changes(self) -> None:
        changed = self.session.changes.since(self.shown_revision)
        for page_id in self.session.pages if changed is None else changed:
            self.shown[page_id] = shown(self.session, page_id)
        self.shown_revision = self.session.revision
        if len(self.records) % SHOWN_EVERY == 0:
            assert self.shown == {page_id: shown(self.session, page_id) for page_id in self.session.pages}

    def teardown(self) -> None:
        state, decided = codec.encode_state(self.session), decisions_digest(self.decided)
        for again, decided_again in (
            self.folded(),
            self.folded(snapshots_every=7),
            self.folded(packing=False),
        ):
            assert codec.encode_state(again) == state
            assert decisions_digest(decided_again) == decided


class AllAtHand(SessionPages):
    """Pages that are never packed."""

    def settle(self, page_ids: Iterable[str], resident: Container[str]) -> None:
        pass


def through_bytes(session: Session) -> Session:
    return codec.decode_state(
        codec.decompress_state(codec.compress_state(codec.encode_state(session))), session.revision
    )


def shown(session: Session, page_id: str) -> bytes:
    return page_message(session, session.pages[page_id]).SerializeToString(deterministic=True)


Histories.TestCase.settings = settings(stateful_step_count=50)
TestHistories: Any = Histories.TestCase
