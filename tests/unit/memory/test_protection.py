"""Pins and protected turns beside a working set are those of a session's settings."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core import events as ev
from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.pages import Extent, FaultReason, MessageRole, StoredRepresentation
from pagekeeper.core.session import Session
from pagekeeper.memory import AntiThrashPolicy, PinnedSet
from tests.unit.memory.pages import IDS, page_ids

windows = st.integers(0, 5)
turns = st.integers(0, 8)
PIN_STEPS: Final = st.lists(
    st.tuples(st.sampled_from(["pin", "auto_pin", "unpin", "clear_auto_pins"]), page_ids), max_size=30
)


@given(PIN_STEPS, st.integers(0, 3))
def test_pinned_is_what_was_pinned_and_the_newest_automatic_pins(steps: list[tuple[str, str]], most: int) -> None:
    pinned, held, automatic = PinnedSet(max_auto_pins=most), set[str](), list[str]()
    for step, page_id in steps:
        if step == "clear_auto_pins":
            pinned.clear_auto_pins()
            automatic.clear()
            continue
        getattr(pinned, step)(page_id)
        if step == "pin":
            held.add(page_id)
            continue
        automatic = [one for one in automatic if one != page_id]
        if step == "auto_pin":
            automatic = [*automatic, page_id][-most:] if most else []
        else:
            held.discard(page_id)
    assert pinned.get_all() == {*held, *automatic}
    assert {page_id for page_id in IDS if pinned.is_pinned(page_id)} == {*held, *automatic}


def test_the_defaults_are_those_of_a_session() -> None:
    config, policy = ev.SessionConfig(), AntiThrashPolicy()
    assert policy.eviction_cooldown_turns == config.eviction_cooldown_turns
    assert policy.fault_protection_turns == config.fault_protection_turns
    assert PinnedSet().pin_last_n_turns == config.pin_last_turns


class Fold:
    """A session that pins no last turns, with a page that left in its turn 1."""

    def __init__(self, fault_protection_turns: int) -> None:
        self.session = Session()
        config = ev.SessionConfig(pin_last_turns=0, fault_protection_turns=fault_protection_turns)
        stored = StoredRepresentation(0, 10, 0, b"", extent=Extent("", 0, 0))
        page = page_to_map("p", stored, "x", role=MessageRole.ASSISTANT)._replace(version=1)
        for event in (ev.SessionOpened(config), ev.TurnBegun(), ev.PagesMapped((page,))):
            self.fold(event)
        self.session.working_set.remove("p")

    def fold(self, event: ev.Event) -> None:
        revision = self.session.revision + 1
        self.session.apply(revision, ev.Transaction(f"r{revision}", b"", 0, (event,)))


@given(windows, st.lists(st.booleans(), max_size=12))
def test_a_page_that_was_faulted_in_is_protected_for_as_long_as_in_a_session(
    fault_protection_turns: int, faults: list[bool]
) -> None:
    folded, policy = Fold(fault_protection_turns), AntiThrashPolicy(fault_protection_turns=fault_protection_turns)
    for faulted in faults:
        folded.fold(ev.TurnBegun())
        turn = folded.session.turn
        if faulted:
            folded.fold(ev.PageAdmitted("p", 1, 0, FaultReason.RESOLVE_REFERENCE))
            policy.record_fault("p", turn)
        protected = folded.session.is_protected(folded.session.pages["p"])
        assert policy.can_evict("p", turn) is not protected


@given(windows, windows, st.lists(st.tuples(st.booleans(), page_ids, turns), max_size=12), turns)
def test_a_page_is_protected_until_the_last_of_its_windows_is_over(
    cooldown: int, protection: int, recorded: list[tuple[bool, str, int]], later: int
) -> None:
    policy, until = AntiThrashPolicy(cooldown, protection), dict.fromkeys(IDS, 0)
    recorded.sort(key=lambda one: one[2])
    for faulted, page_id, turn in recorded:
        (policy.record_fault if faulted else policy.record_eviction)(page_id, turn)
        until[page_id] = max(until[page_id], turn + (protection if faulted else cooldown))
    now = later + max((turn for _, _, turn in recorded), default=0)
    for page_id in IDS:
        penalties = [policy.get_eviction_penalty(page_id, turn) for turn in range(now, now + 8)]
        allowed = [policy.can_evict(page_id, turn) for turn in range(now, now + 8)]
        assert allowed == [turn >= until[page_id] for turn in range(now, now + 8)]
        assert allowed == [not penalty for penalty in penalties]
        assert penalties == sorted(penalties, reverse=True)
        assert all(0 <= penalty <= 1 for penalty in penalties)


def test_a_page_that_was_faulted_in_this_turn_costs_most() -> None:
    policy = AntiThrashPolicy(fault_protection_turns=2)
    policy.record_fault("p", 5)
    assert [policy.get_eviction_penalty("p", turn) for turn in (5, 6, 7)] == [1.0, 0.5, 0.0]


def test_pages_whose_protection_is_over_are_forgotten() -> None:
    policy = AntiThrashPolicy()
    for turn in range(1_000):
        policy.record_fault(f"p{turn}", turn)
    assert repr(policy).endswith("2 pages)")
