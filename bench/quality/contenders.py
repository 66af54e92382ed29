"""Replacement policies side by side: each is shown the same accesses and says what stayed.

Ours is the fold itself: each access becomes the event that the platform would log, and is applied to a `Session`. The
others are libcachesim's, by tokens as object size, the policy of the guide's system (installed, not copied), and the
offline optimum. They evict as little as makes room. Ours is judged as it is shipped: it evicts in batches between two
watermarks, of which the upper one is where the others' memory ends, and keeps the last turns. Where a page changes,
its old version is taken away from all of them, except from W-TinyLFU, whose `remove` crashes: there it stays until it
is evicted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from math import exp, inf, log, sqrt
from typing import Any, Final, Protocol

from bench.quality.reference_strings import Access, ReferenceString
from pagekeeper.core import events as ev
from pagekeeper.core.effects import RecordedEffect, decisions_digest
from pagekeeper.core.pages import FaultReason, Modality, StoredRepresentation, TrustClass
from pagekeeper.core.session import Session

OURS: Final = "ours"
ONE_BY_ONE: Final = "ours, one by one"
GUIDE: Final = "the guide's importance-LRU"


Key = tuple[str, int]
"""A page and its version."""


class Contender(Protocol):
    def access(self, access: Access) -> bool:
        """Whether the page was there; it is now, unless the policy will not have it."""
        ...

    def holds(self, access: Access) -> bool: ...


class Library:
    """A policy of libcachesim."""

    def __init__(self, policy: str, memory_tokens: int, *, forgets: bool = True, **settings: float) -> None:
        self._library: Any = import_module("libcachesim")
        self._cache = getattr(self._library, policy)(memory_tokens, **settings)
        self._forgets = forgets
        self._requests: dict[Key, Any] = {}
        self._versions: dict[str, int] = {}

    def access(self, access: Access) -> bool:
        before = self._versions.get(access.page_id, access.version)
        if before != access.version and self._forgets:
            self._cache.remove(self._requests[access.page_id, before].obj_id)
        self._versions[access.page_id] = access.version
        return bool(self._cache.get(self._request(access)))

    def holds(self, access: Access) -> bool:
        return self._cache.find(self._request(access), update_cache=False) is not None

    def _request(self, access: Access) -> Any:  # noqa: ANN401 - the library has no types
        key = (access.page_id, access.version)
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = self._library.Request()
            request.obj_id, request.obj_size = len(self._requests), access.size_tokens
        return request


class GuidePolicy:
    """Pages in order of admission, which a use does not change, and the guide's score of position and importance."""

    def __init__(self, memory_tokens: int) -> None:
        module = import_module("chuk_ai_session_manager.memory.eviction_policy")
        models = import_module("chuk_ai_session_manager.memory.models")
        self._policy, self._context = module.ImportanceWeightedLRU(), module.EvictionContext
        self._tier = models.StorageTier.L0
        self._memory_tokens = memory_tokens
        self._resident: dict[str, Access] = {}

    def access(self, access: Access) -> bool:
        known = self._resident.get(access.page_id)
        if known is not None and known.version == access.version:
            return True
        self._resident.pop(access.page_id, None)
        used = sum(one.size_tokens for one in self._resident.values()) + access.size_tokens
        if used > self._memory_tokens:
            context = self._context(l0_page_ids=list(self._resident))
            for candidate in self._policy.score_candidates(context, self._tier):
                used -= self._resident.pop(candidate.page_id).size_tokens
                if used <= self._memory_tokens:
                    break
        self._resident[access.page_id] = access
        return False

    def holds(self, access: Access) -> bool:
        known = self._resident.get(access.page_id)
        return known is not None and known.version == access.version


class Fold:
    """A session under one policy. `pin` says which pages are pinned as they are mapped."""

    def __init__(
        self, config: ev.SessionConfig, pin: Callable[[Access], bool] = lambda _: False, *, blind: bool = False
    ) -> None:
        self.session = Session()
        self.effects: list[RecordedEffect] = []
        self._pin, self._blind = pin, blind
        self._versions: dict[str, int] = {}
        self._apply(ev.SessionOpened(config))

    def access(self, access: Access) -> bool:
        while self.session.turn < access.turn:
            self._apply(ev.TurnBegun())
        page = self.session.pages.get(access.page_id)
        if page is None or self._versions[access.page_id] != access.version:
            self._map(access, 1 if page is None else page.current_version + 1)
            return False
        if access.page_id not in self.session.working_set:
            self._apply(ev.PageAdmitted(access.page_id, page.current_version, 0, FaultReason.RESOLVE_REFERENCE))
            return False
        if not self._blind:
            self._apply(ev.PagesUsed((access.page_id,)))
        return True

    def holds(self, access: Access) -> bool:
        return access.page_id in self.session.working_set and self._versions[access.page_id] == access.version

    def digest(self) -> str:
        return decisions_digest(self.effects).hex()

    def _map(self, access: Access, version: int) -> None:
        self._versions[access.page_id] = access.version
        content = f"{access.page_id} {version}".encode()
        mapped = ev.MappedPage(
            page_id=access.page_id,
            version=version,
            modality=Modality.TEXT,
            page_type=access.page_type,
            role=access.role,
            trust=TrustClass.TOOL,
            hint="",
            importance=0.5,
            pinned=self._pin(access),
            full=StoredRepresentation(0, access.size_tokens, len(content), sha256(content).digest(), inline=content),
            tool_name=access.tool_name,
            recall_likelihood_percent=access.recall_likelihood_percent,
        )
        self._apply(ev.PagesMapped((mapped,)))

    def _apply(self, event: ev.Event) -> None:
        revision = self.session.revision + 1
        self.effects += self.session.apply(revision, ev.Transaction(str(revision), bytes(32), 0, (event,)))


class Optimum:
    """Knows what comes. Exact for pages of one size when `weigh` is the distance alone; with sizes that is a greedy,
    and so are distance times size and times its root. A page that is never wanted again leaves at once.
    """

    def __init__(self, accesses: Sequence[Access], memory_tokens: int, weigh: Callable[[float, int], float]) -> None:
        self._next, self._memory_tokens, self._weigh = _next_uses(accesses), memory_tokens, weigh
        self._now = -1
        self._resident: dict[Key, tuple[float, int]] = {}

    def access(self, access: Access) -> bool:
        self._now += 1
        key, resident = (access.page_id, access.version), self._resident
        hit = key in resident
        resident[key] = (self._next[self._now], access.size_tokens)
        if resident[key][0] == inf:
            del resident[key]
        used = sum(size for _, size in resident.values())
        while used > self._memory_tokens:
            worst = max(resident, key=lambda one: self._weigh(resident[one][0] - self._now, resident[one][1]))
            used -= resident.pop(worst)[1]
        return hit

    def holds(self, access: Access) -> bool:
        return (access.page_id, access.version) in self._resident


class Oracle:
    """Is told what the draw of a trace wants next and how likely, and keeps what is likeliest for its size: what an
    online policy could do at best, short of the future itself.
    """

    def __init__(self, string: ReferenceString, exponent: float) -> None:
        self._string, self._exponent = string, exponent
        self._now, self._segment = -1, 0
        self._resident: dict[str, Access] = {}

    def access(self, access: Access) -> bool:
        self._now += 1
        odds = self._string.odds
        while self._segment + 1 < len(odds) and odds[self._segment + 1][0] <= self._now:
            self._segment += 1
        known = self._resident.pop(access.page_id, None)
        if known is not None and known.version == access.version:
            self._resident[access.page_id] = known
            return True
        used = sum(one.size_tokens for one in self._resident.values()) + access.size_tokens
        for worst in sorted(self._resident, key=lambda one: self._worth(odds[self._segment][1], one)):
            if used <= self._string.memory_tokens:
                break
            used -= self._resident.pop(worst).size_tokens
        self._resident[access.page_id] = access
        return False

    def holds(self, access: Access) -> bool:
        return access.page_id in self._resident

    def _worth(self, odds: Mapping[str, float], page_id: str) -> float:
        return odds.get(page_id, 0.0) / exp(self._exponent * log(self._resident[page_id].size_tokens))


def _next_uses(accesses: Sequence[Access]) -> list[float]:
    later: dict[Key, float] = {}
    following = [inf] * len(accesses)
    for index in range(len(accesses) - 1, -1, -1):
        key = (accesses[index].page_id, accesses[index].version)
        following[index] = later.get(key, inf)
        later[key] = index
    return following


def one_by_one(memory_tokens: int, policy: str) -> ev.SessionConfig:
    """Memory to the last token, nothing freed ahead, nothing protected: the policy's decisions and nothing else."""
    return ev.SessionConfig(
        max_l0_tokens=memory_tokens,
        reserved_tokens=0,
        eviction_threshold=1.0,
        target_utilization=1.0,
        pin_last_turns=0,
        fault_protection_turns=0,
        eviction_policy=policy,
    )


def as_shipped(memory_tokens: int, policy: str = ev.SessionConfig().eviction_policy) -> ev.SessionConfig:
    """The defaults, with the high watermark where the others' memory ends."""
    config = ev.SessionConfig(reserved_tokens=0, eviction_policy=policy)
    return replace(config, max_l0_tokens=int(memory_tokens / config.eviction_threshold))


ONLINE: Final[Mapping[str, Callable[[int], Contender]]] = {
    "FIFO": lambda tokens: Library("FIFO", tokens),
    "LRU": lambda tokens: Library("LRU", tokens),
    "LFU": lambda tokens: Library("LFU", tokens),
    "Clock": lambda tokens: Library("Clock", tokens),
    "ARC": lambda tokens: Library("ARC", tokens),
    # Their small queues, at the sizes that the library gives them, are smaller than one page.
    "S3-FIFO": lambda tokens: Library("S3FIFO", tokens, small_size_ratio=0.25),
    "W-TinyLFU": lambda tokens: Library("WTinyLFU", tokens, forgets=False, window_size=0.2),
    "SIEVE": lambda tokens: Library("Sieve", tokens),
    GUIDE: GuidePolicy,
}
SIZE_AWARE: Final[Mapping[str, Callable[[int], Contender]]] = {
    "GDSF": lambda tokens: Library("GDSF", tokens),
    "LHD": lambda tokens: Library("LHD", tokens),
}
OPTIMA: Final[Mapping[str, Callable[[float, int], float]]] = {
    "farthest": lambda distance, _: distance,
    "farthest by tokens": lambda distance, size: distance * size,
    "farthest by the root of tokens": lambda distance, size: distance * sqrt(size),
}
