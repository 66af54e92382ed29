"""An entry that the TLB answers is what the page table said at the revision asked for, or later."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.core.tlb import Tlb

KEY = SessionKey(TenantId("t"), SessionId("s"))
PAGES = ("a", "b", "c")


def nobody(_: SessionKey) -> None:
    pass


def filled(revision: int, *pages: str) -> Tlb[int]:
    """A TLB that asked for these pages and was told at `revision`."""
    tlb: Tlb[int] = Tlb(nobody)
    assert tlb.lookup(KEY, pages[0], 0) is None
    tlb.fill(KEY, revision, [(page, revision) for page in pages])
    return tlb


def test_a_notice_drops_only_what_it_touched() -> None:
    tlb = filled(5, "a", "b")
    tlb.shoot_down(KEY, 5, 7, ("a",))
    assert tlb.lookup(KEY, "a", 0) is None
    assert tlb.lookup(KEY, "b", 7) == 5
    assert tlb.lookup(KEY, "b", 8) is None


def test_a_notice_of_anything_drops_everything() -> None:
    tlb = filled(5, "a", "b")
    tlb.shoot_down(KEY, 5, 7, None)
    assert tlb.lookup(KEY, "a", 0) is None
    assert tlb.lookup(KEY, "b", 0) is None


def test_a_missed_notice_drops_what_may_have_changed_in_it() -> None:
    tlb = filled(5, "a", "b")
    tlb.shoot_down(KEY, 5, 6, ())
    tlb.fill(KEY, 9, [("b", 9)])
    tlb.shoot_down(KEY, 7, 8, ())  # The one from 6 to 7 was missed, and nobody knows what it touched.
    assert tlb.lookup(KEY, "a", 0) is None
    assert tlb.lookup(KEY, "b", 9) == 9


def test_a_late_notice_does_not_drop_what_is_newer() -> None:
    tlb = filled(9, "a")
    tlb.shoot_down(KEY, 5, 9, ("a",))
    assert tlb.lookup(KEY, "a", 9) == 9


def test_what_was_said_before_a_notice_that_was_heard_is_not_entered() -> None:
    tlb = filled(5, "a")
    tlb.shoot_down(KEY, 5, 6, ("b",))
    tlb.fill(KEY, 5, [("b", 5)])
    assert tlb.lookup(KEY, "b", 0) is None


def test_the_first_lookup_of_a_session_hears_notices_too() -> None:
    """Get misses; an append changes the page and is heard; only then the old answer arrives."""
    tlb: Tlb[int] = Tlb(nobody)
    assert tlb.lookup(KEY, "a", 0) is None
    tlb.shoot_down(KEY, 5, 6, ("a",))
    tlb.fill(KEY, 5, [("a", 5)])
    assert tlb.lookup(KEY, "a", 0) is None


def test_an_answer_that_nobody_asked_for_is_not_entered() -> None:
    tlb: Tlb[int] = Tlb(nobody)
    tlb.fill(KEY, 5, [("a", 5)])
    assert tlb.lookup(KEY, "a", 0) is None


def test_an_append_of_our_own_counts_when_nothing_came_between() -> None:
    tlb = filled(5, "a")
    tlb.shoot_down(KEY, 4, 5, ())
    tlb.advance(KEY, 5, 6)
    assert tlb.lookup(KEY, "a", 6) == 5
    tlb.advance(KEY, 7, 8)
    assert tlb.lookup(KEY, "a", 8) is None
    assert tlb.lookup(KEY, "a", 6) == 5


def test_it_stays_within_its_bounds() -> None:
    forgotten: list[SessionKey] = []
    tlb: Tlb[int] = Tlb(forgotten.append, lines_max=2, entries_max=3)
    for session in range(5):
        key = SessionKey(TenantId("t"), SessionId(f"s{session}"))
        tlb.lookup(key, "p0", 0)
        tlb.fill(key, 1, [(f"p{page}", page) for page in range(10)])
    assert len(tlb) == 6
    # Nobody has to listen for those any more.
    assert [key.session for key in forgotten] == ["s0", "s1", "s2"]
    assert [tlb.listens(SessionKey(TenantId("t"), SessionId(f"s{session}"))) for session in (2, 3, 4)] == [
        False,
        True,
        True,
    ]


@dataclass(frozen=True, slots=True)
class Append:
    previous_revision: int
    revision: int
    touches: tuple[str, ...] | None


class World:
    """A page table, a feed that delivers late and may lose notices, and answers that are on their way."""

    def __init__(self) -> None:
        self.tlb: Tlb[int] = Tlb(nobody)
        self.revision = 0
        self.changed = {page: [0] for page in PAGES}
        self.feed: list[Append] = []
        self.answers: list[tuple[int, dict[str, int]]] = []

    def append(self, touches: tuple[str, ...], *, anything: bool) -> None:
        before = self.revision
        self.revision += 2
        for page in touches:
            self.changed[page].append(self.revision)
        self.feed.append(Append(before, self.revision, None if anything else touches))

    def hear(self, *, lost: bool) -> None:
        if self.feed:
            notice = self.feed.pop(0)
            if not lost:
                self.tlb.shoot_down(KEY, notice.previous_revision, notice.revision, notice.touches)

    def look_up(self, page: str, min_revision: int) -> None:
        """Use what the TLB has, or ask the page table, whose answer comes later."""
        said = self.tlb.lookup(KEY, page, min_revision)
        if said is None:
            self.answers.append((self.revision, {page: changes[-1] for page, changes in self.changed.items()}))
            return
        changed_since = [at for at in self.changed[page] if at > said]
        assert not changed_since or min_revision < changed_since[0]

    def answer(self) -> None:
        if self.answers:
            revision, entries = self.answers.pop(0)
            self.tlb.fill(KEY, revision, entries.items())


STEPS = st.one_of(
    st.builds(lambda touches, anything: ("append", touches, anything), st.sets(st.sampled_from(PAGES)), st.booleans()),
    st.builds(lambda lost: ("hear", lost), st.sampled_from([False, False, False, True])),
    st.builds(lambda page, back: ("look_up", page, back), st.sampled_from(PAGES), st.integers(0, 4)),
    st.just(("answer",)),
    st.just(("admit",)),
)


@given(st.lists(STEPS, max_size=80))
def test_it_never_answers_what_was_not_so_at_the_revision_asked_for(steps: list[tuple[object, ...]]) -> None:
    """Values are the revisions at which their pages last changed, so a stale one gives itself away."""
    world = World()
    for step in steps:
        match step:
            case ("append", set(touches), bool(anything)):
                world.append(tuple(sorted(touches)), anything=anything)
            case ("admit",):
                world.append((), anything=False)
                world.tlb.advance(KEY, world.revision - 2, world.revision)
            case ("hear", bool(lost)):
                world.hear(lost=lost)
            case ("look_up", str(page), int(back)):
                world.look_up(page, max(0, world.revision - back))
            case _:
                world.answer()


@given(st.lists(STEPS, max_size=80))
def test_once_everything_is_heard_it_answers_what_is_so_now(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for step in steps:
        match step:
            case ("append", set(touches), bool(anything)):
                world.append(tuple(sorted(touches)), anything=anything)
            case ("hear", bool()):
                world.hear(lost=False)
            case ("look_up", str(page), int(back)):
                world.look_up(page, max(0, world.revision - back))
            case _:
                world.answer()
    while world.feed:
        world.hear(lost=False)
    for page in PAGES:
        said = world.tlb.lookup(KEY, page, 0)
        assert said is None or said == world.changed[page][-1]
