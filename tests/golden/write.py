"""Writes the golden log: a session that has everything in it, and what it folds to.

    python -m tests.golden.write

The log is kept as an archive keeps it. It was written once, by the decisions of that day; what it folds to must not
change, or sessions that exist would wake up as something else. So this is run again only for events that the log has
none of yet, which it puts before the end, leaving what stands there alone. A change of the fold's rules comes with
a new FOLD_VERSION.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from random import Random
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import decisions_digest
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.core.fold_rules import FOLD_VERSION
from pagekeeper.core.pages import (
    Extent,
    FaultReason,
    KeyValue,
    LinkKind,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.v1 import event_pb2
from tests.golden.folding import (
    GOLDEN_DECISIONS_OF_POLICIES,
    GOLDEN_LOG,
    GOLDEN_STATES,
    GOLDEN_STATES_OF_NEWEST_RULES,
    fold,
    named,
    with_policy,
)

SEED: Final = 20261123
STEPS: Final = 400
STATES_EVERY: Final = 40
FAULT_TOKENS_MAX: Final = 300
MEDIA: Final = (Modality.IMAGE, Modality.AUDIO, Modality.VIDEO)

CONFIGS: Final = (
    ev.SessionConfig(
        max_l0_tokens=3_000, reserved_tokens=300, max_fault_tokens_per_turn=1_500, eviction_policy="importance-lru/1"
    ),
    ev.SessionConfig(max_l0_tokens=1_200, reserved_tokens=100, eviction_policy="lru/1", pin_last_turns=1),
    ev.SessionConfig(
        max_l0_tokens=6_000,
        reserved_tokens=500,
        max_faults_per_turn=8,
        eviction_cooldown_turns=5,
        eviction_policy="importance-lru/1",
    ),
)

Addition = Callable[[Session], ev.Event | None]


def _some_fault(session: Session, offset: int) -> ev.Event | None:
    """Of a page that fits and is not resident, another one for each offset. No budget of faults is asked."""
    absent = [
        page.page_id
        for page in session.mapped_pages()
        if page.page_id not in session.working_set and page.current.full.size_tokens <= FAULT_TOKENS_MAX
    ]
    page_id = absent[7 * offset % len(absent)]
    return decisions.admit(session, page_id, 0, FaultReason.RESOLVE_REFERENCE, prefetched=True)


ADDITIONS: Final[dict[type, tuple[Addition, ...]]] = {
    ev.UsageReported: (
        lambda session: decisions.report_usage(session, "claude", 1_000, 1_400),
        lambda session: decisions.report_usage(session, "claude", 2_000, 2_500),
        lambda session: decisions.report_usage(session, "claude", 900, 1_530),
    ),
    ev.PagesUsed: (
        lambda session: decisions.use(session, [resident.page_id for resident in session.working_set][:3]),
        lambda session: decisions.configure(session, replace(CONFIGS[2], eviction_policy="reuse/4"), ()),
        *(partial(_some_fault, offset=offset) for offset in range(12)),
        lambda session: decisions.use(session, [resident.page_id for resident in session.working_set][-2:]),
        *(partial(_some_fault, offset=offset) for offset in range(12, 24)),
    ),
}
"""Events that came after the log was first written, in the order of their coming."""


@dataclass(slots=True)
class Writer:
    random: Random
    session: Session
    archived: event_pb2.ArchivedHistory
    pages_made: int = 0

    def write(self, event: ev.Event) -> None:
        number = len(self.archived.records) + 1
        digest = sha256(str(number).encode()).digest()
        transaction = ev.Transaction(f"request-{number}", digest, 1_760_000_000_000 + number * 977, (event,))
        record = event_pb2.LogRecord.FromString(codec.encode_transaction(transaction))
        revision = self.session.revision + self.random.randint(1, 5)
        self.session.apply(revision, transaction)
        self.archived.records.add(revision=revision, record=record)

    def roll_up(self) -> None:
        revision = self.session.revision + 1
        segment = ev.ArchiveSegment(
            1, self.session.revision, self.session.turn, Extent(f"acme/s/history/{revision}", 0, 99), bytes(32)
        )
        snapshot = event_pb2.Snapshot(
            operation_id=f"snapshot-{revision}",
            folded_revision=self.session.revision,
            archived=codec.encode_archive_segment(segment),
            state_digest=codec.state_digest(self.session),
        )
        self.session.roll_up(revision, segment)
        self.archived.records.add(revision=revision, record=event_pb2.LogRecord(snapshot=snapshot))

    def some_page(self) -> str:
        return f"p{self.random.randrange(max(1, self.pages_made))}"

    def stored(self, page_id: str, level: int, size_tokens: int) -> StoredRepresentation:
        data = f"{page_id}.{level}.{size_tokens}.{self.random.getrandbits(32)}".encode()
        compressor = f"extract/{level}" if level else ""
        return StoredRepresentation(level, size_tokens, len(data), sha256(data).digest(), compressor, inline=data)

    # What may happen

    def append(self) -> ev.Event | None:
        new = [self._new_page() for _ in range(self.random.randint(1, 4))]
        return decisions.map_pages(self.session, new, _full_tokens)

    def _new_page(self) -> decisions.NewPage:
        random = self.random
        known = self.session.page(self.some_page()) if random.random() < 0.2 else None
        if known is None:
            page_id = f"p{self.pages_made}"
            self.pages_made += 1
        else:
            page_id = known.page_id
        modality = known.modality if known else random.choices(list(Modality), [12, 1, 1, 1, 4])[0]
        role = known.role if known else random.choices(list(MessageRole), [3, 5, 6, 1])[0]
        parent = self.some_page() if random.random() < 0.2 else None
        medium = modality in MEDIA
        mapped = ev.MappedPage(
            page_id=page_id,
            version=0,
            modality=modality,
            page_type=random.choices(list(PageType), [12, 2, 3, 2, 1, 1])[0],
            role=role,
            trust=random.choice(list(TrustClass)),
            hint=f"hint of {page_id}",
            importance=random.randrange(9) / 8,
            pinned=random.random() < 0.05,
            full=self.stored(page_id, 0, random.choice([9, 40, 80, 150, 300, 700, 2_500])),
            links=(PageLink(LinkKind.DERIVED_FROM, parent),) if parent and self.session.page(parent) else (),
            mime_type="text/plain",
            media=MediaDescription("a caption", "a transcript", 640, 480, 12.5, ("one", "two")) if medium else None,
            metadata=(KeyValue("source", "golden"),) if random.random() < 0.3 else (),
            tool_name="grep" if role is MessageRole.TOOL else "",
            tool_call_id=f"call-{page_id}" if role is MessageRole.TOOL else "",
        )
        return decisions.NewPage(mapped, new_version=known is not None)

    def fault(self) -> ev.Event | None:
        reason = self.random.choice(list(FaultReason))
        level = self.random.randrange(4)
        prefetched = self.random.random() < 0.2
        return decisions.admit(self.session, self.some_page(), level, reason, prefetched=prefetched)

    def represent(self) -> ev.Event | None:
        added = []
        for resident in list(self.session.working_set)[:6]:
            full = self.session.pages[resident.page_id].current.full.size_tokens
            medium = self.session.pages[resident.page_id].modality in MEDIA
            for level, percent in ((1, 130 if medium else 45), (2, 20), (3, 6)):
                representation = self.stored(resident.page_id, level, max(1, full * percent // 100))
                if medium and level == 1:
                    representation = replace(representation, preview_mime_type="image/jpeg")
                added.append(ev.AddedRepresentation(resident.page_id, resident.version, representation))
        return decisions.add_representations(self.session, added)

    def place(self) -> ev.Event | None:
        dirty = [
            ev.PlacedRepresentation(page.page_id, version.version, stored.level, Extent("acme/s/pages/1", 0, 7))
            for page in self.session.pages.values()
            for version in page.versions
            for stored in version.representations
            if stored.dirty
        ]
        return decisions.place(self.session, dirty[: self.random.randint(1, 12)])

    def annotate(self) -> ev.Event | None:
        random = self.random
        annotation = ev.PageAnnotation(
            self.some_page(),
            hint=random.choice([None, "another hint"]),
            page_type=random.choice([None, *PageType]),
            metadata=(KeyValue("seen", random.choice(["", "yes"])),),
        )
        return decisions.annotate(self.session, annotation)

    def restore(self) -> ev.Event:
        checkpoint = decisions.known_checkpoint(self.session, f"c{self.random.randrange(3)}")
        then, _ = fold(self.archived, until=checkpoint.revision)
        return decisions.restore(then, checkpoint.checkpoint_id)

    def step(self) -> Callable[[], ev.Event | None]:
        session, random = self.session, self.random
        choices: list[tuple[int, Callable[[], ev.Event | None]]] = [
            (12, self.append),
            (14, self.fault),
            (5, self.represent),
            (3, self.place),
            (2, self.annotate),
            (1, self.restore),
            (3, ev.TurnBegun),
            (2, lambda: decisions.pin(session, [self.some_page()])),
            (2, lambda: decisions.unpin(session, [self.some_page()])),
            (2, lambda: decisions.set_importance(session, self.some_page(), random.randrange(9) / 8)),
            (1, lambda: decisions.unmap(session, [self.some_page()])),
            (1, lambda: decisions.link(session, self.some_page(), [PageLink(LinkKind.REFERS_TO, self.some_page())])),
            (1, lambda: decisions.configure(session, random.choice(CONFIGS), (KeyValue("team", "blue"),))),
            (2, lambda: decisions.create_checkpoint(session, f"c{random.randrange(3)}", "a name")),
            (1, lambda: decisions.delete_checkpoint(session, f"c{random.randrange(3)}")),
        ]
        return random.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]


def _full_tokens(mapped: ev.MappedPage, _: TrustClass) -> int:
    return mapped.full.size_tokens


def write() -> event_pb2.ArchivedHistory:
    writer = Writer(Random(SEED), Session(), event_pb2.ArchivedHistory())
    writer.write(decisions.open_session(writer.session, "s", CONFIGS[0], (KeyValue("team", "red"),)))
    while len(writer.archived.records) < STEPS:
        if writer.random.random() < 0.01:
            writer.roll_up()
        try:
            event = writer.step()()
        except PagekeeperError:
            continue
        if event is not None:
            writer.write(event)
    return writer.archived


def extended(archived: event_pb2.ArchivedHistory, additions: Sequence[Addition]) -> event_pb2.ArchivedHistory:
    """A log up to the session's end, with what these decide and that end."""
    session, _ = fold(archived, until=archived.records[-1].revision)
    writer = Writer(Random(SEED), session, archived)
    for addition in additions:
        event = addition(session)
        if event is not None:
            writer.write(event)
    writer.write(ev.SessionClosed())
    writer.write(ev.SessionDeleted())
    return writer.archived


def states_of(archived: event_pb2.ArchivedHistory) -> list[dict[str, int | str]]:
    revisions = [record.revision for record in archived.records]
    states: list[dict[str, int | str]] = []
    for revision in [*revisions[::STATES_EVERY], *revisions[-3:]]:
        session, effects = fold(archived, until=revision)
        states.append(
            {
                "revision": revision,
                "state_sha256": codec.state_digest(session).hex(),
                "decisions_sha256": decisions_digest(effects).hex(),
            }
        )
    return states


def write_other_folds(archived: event_pb2.ArchivedHistory) -> None:
    """What the log folds to by the newest rules, and what each policy decides of it."""
    newest = named(archived, lambda _: FOLD_VERSION)
    GOLDEN_STATES_OF_NEWEST_RULES.write_text(json.dumps(states_of(newest), indent=1) + "\n")
    last = archived.records[-1].revision
    decided = {
        policy: decisions_digest(fold(with_policy(archived, policy), until=last)[1]).hex() for policy in POLICIES
    }
    GOLDEN_DECISIONS_OF_POLICIES.write_text(json.dumps(decided, indent=1) + "\n")


def main() -> None:
    if GOLDEN_LOG.exists():
        archived = event_pb2.ArchivedHistory.FromString(GOLDEN_LOG.read_bytes())
        del archived.records[-2:]
    else:
        archived = write()
    present = {
        type(event) for kept in archived.records for event in codec.decode_transaction(kept.record.transaction).events
    }
    extended(
        archived, [addition for kind, additions in ADDITIONS.items() if kind not in present for addition in additions]
    )
    GOLDEN_LOG.write_bytes(archived.SerializeToString(deterministic=True))
    GOLDEN_STATES.write_text(json.dumps(states_of(archived), indent=1) + "\n")
    write_other_folds(archived)


if __name__ == "__main__":
    main()
