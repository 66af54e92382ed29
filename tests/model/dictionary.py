"""A session as plain dictionaries: what its events say, without the fold's rules.

It knows which pages there are from what was asked for, and what is resident from the happenings alone, so it disagrees
with the fold as soon as that does something it does not tell.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Self

from pagekeeper.core import events as ev
from pagekeeper.core.effects import (
    Admitted,
    Compressed,
    Evicted,
    NotAdmitted,
    PressureChanged,
    RecordedEffect,
    TurnStarted,
)
from pagekeeper.core.pages import MessageRole


@dataclass(slots=True)
class KnownPage:
    """A page. `sizes` has a dictionary per version, from level to tokens."""

    role: MessageRole
    importance: float
    pinned: bool
    mapped: bool = True
    current: int = 0
    sizes: list[dict[int, int]] = field(default_factory=list)
    dirty: set[tuple[int, int]] = field(default_factory=set)
    said_in: list[int] = field(default_factory=list)
    """The turn in which each version was said."""


@dataclass(slots=True)
class DictionarySession:
    config: ev.SessionConfig
    pages: dict[str, KnownPage] = field(default_factory=dict)
    resident: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Level and tokens, in admission order."""
    evicted_in_turn: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)
    turn: int = 0
    faults_this_turn: int = 0
    fault_tokens_this_turn: int = 0
    thrash_faults: int = 0
    versions_stay: bool = False
    """Whether the rules that this is folded by have a version begin no turn, and reminders leave."""

    def copy(self) -> Self:
        """What a restore goes back to."""
        return replace(
            self,
            pages={page_id: copy(page) for page_id, page in self.pages.items()},
            resident=dict(self.resident),
        )

    @property
    def used_tokens(self) -> int:
        return sum(tokens for _, tokens in self.resident.values())

    def never_evicted(self, page_id: str) -> bool:
        page = self.pages[page_id]
        instructs = page.role is MessageRole.SYSTEM and (page.said_in[page.current - 1] == 0 or not self.versions_stay)
        return page.pinned or instructs

    @property
    def pinned_tokens(self) -> int:
        return sum(tokens for page_id, (_, tokens) in self.resident.items() if self.never_evicted(page_id))

    def begin_turn(self) -> None:
        self.turn += 1
        self.faults_this_turn = self.fault_tokens_this_turn = 0
        self.evicted_in_turn = {
            page_id: turn
            for page_id, turn in self.evicted_in_turn.items()
            if self.turn - turn <= self.config.eviction_cooldown_turns
        }

    def map(self, pages: Sequence[ev.MappedPage], happenings: Sequence[RecordedEffect]) -> None:
        """One page after the other: what is told before a page is admitted or not made room for it.

        What is told before anything else made room for the first page or, by newer rules, for all of them.
        """
        room = list(takewhile(lambda happening: isinstance(happening.what, Evicted | Compressed), happenings))
        self.hear(room)
        told = iter(happenings[len(room) :])
        for mapped in pages:
            self._map(mapped)
            for happening in told:
                self.hear([happening])
                if isinstance(happening.what, Admitted | NotAdmitted) and happening.what.page_id == mapped.page_id:
                    break
        self.hear(list(told))

    def _map(self, mapped: ev.MappedPage) -> None:
        known = self.pages.get(mapped.page_id)
        if mapped.role is MessageRole.USER and not (self.versions_stay and known is not None and known.mapped):
            self.begin_turn()
        stays = self.versions_stay and known is not None and known.mapped
        page = self.pages.setdefault(mapped.page_id, KnownPage(mapped.role, mapped.importance, mapped.pinned))
        page.mapped, page.pinned, page.importance = True, mapped.pinned, mapped.importance
        before = page.current
        page.sizes.append({0: mapped.full.size_tokens})
        page.current = len(page.sizes)
        page.said_in.append(page.said_in[before - 1] if stays else self.turn)
        page.dirty.add((page.current, 0))
        # The version before leaves without a word: the new one is announced, as admitted or not.
        self.resident.pop(mapped.page_id, None)

    def unmap(self, page_id: str) -> None:
        page = self.pages[page_id]
        page.mapped = page.pinned = False
        self.evicted_in_turn.pop(page_id, None)

    def says_less(self, page_id: str, level: int) -> bool:
        """Whether the prompt has less of a page than it would have at `level`, or nothing."""
        page = self.pages[page_id]
        sizes = page.sizes[page.current - 1]
        resident_level, tokens = self.resident.get(page_id, (9, 0))
        return resident_level > level or sizes[max(at for at in sizes if at <= level)] > tokens

    def restore(self, then: "DictionarySession") -> None:
        for page_id, page in self.pages.items():
            before = then.pages.get(page_id)
            page.mapped = before is not None and before.mapped
            page.pinned = before is not None and before.pinned
            if before is not None and before.mapped:
                page.current, page.importance = before.current, before.importance
        self.evicted_in_turn.clear()

    def hear(self, happenings: Sequence[RecordedEffect], *, voluntary: frozenset[str] = frozenset()) -> None:
        """Follow what happened to the working set. Pages in `voluntary` leave because that was asked for."""
        for happening in happenings:
            assert happening.turn == self.turn
            match happening.what:
                case Admitted(page_id, level, size_tokens, faulted, thrash):
                    self._hear_admitted(page_id, level, size_tokens, faulted=faulted, thrash=thrash)
                case NotAdmitted(page_id):
                    assert page_id not in self.resident
                case Compressed(page_id, before, after, freed_tokens):
                    level, tokens = self.resident[page_id]
                    assert (level, before < after, freed_tokens >= 0) == (before, True, True)
                    self.resident[page_id] = (after, tokens - freed_tokens)
                case Evicted(page_id, size_tokens):
                    assert self.resident.pop(page_id)[1] == size_tokens
                    if page_id not in voluntary:
                        assert not self.never_evicted(page_id)
                        self.evicted_in_turn[page_id] = happening.turn
                case TurnStarted() | PressureChanged():
                    pass

    def _hear_admitted(self, page_id: str, level: int, size_tokens: int, *, faulted: bool, thrash: bool) -> None:
        self.resident.pop(page_id, None)
        self.resident[page_id] = (level, size_tokens)
        assert thrash == (self.evicted_in_turn.pop(page_id, None) is not None and faulted)
        self.thrash_faults += thrash
