"""Packed contexts that are still good: nothing is packed again while the same pages go to the same model.

A pack is found under everything that it depends on: session, model, budget, working set and toolset. The least recently
used goes when there are more than `max_entries`.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.context_packer import PackedContext
from pagekeeper.memory.models import PackCacheStats

__all__ = ["CachedPackedContext", "ContextPackCache"]

CachedPackedContext = PackedContext
"""What is kept is what was packed; the guide's system has two classes for it, and this name for one."""


class _Key(NamedTuple):
    session_id: str
    model_id: str
    token_budget: int
    working_set_hash: str
    toolset_hash: str


@checked
class ContextPackCache:
    def __init__(self, max_entries: int = 32) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be positive, not {max_entries}")
        self.max_entries = max_entries
        self._packs: OrderedDict[_Key, PackedContext] = OrderedDict()
        self._hits = self._misses = self._evictions = self._invalidations = 0

    @staticmethod
    def compute_working_set_hash(page_ids: Iterable[str], versions: Mapping[str, int] | None = None) -> str:
        """SHA-256 of the pages, whatever their order, and of their versions when given."""
        known = versions or {}
        return _digest(sorted((page_id, known.get(page_id, 0)) for page_id in page_ids))

    @staticmethod
    def compute_toolset_hash(tools: Iterable[Mapping[str, object]]) -> str:
        """SHA-256 of tool definitions in their order."""
        return _digest(list(tools))

    def get(
        self, session_id: str, model_id: str, token_budget: int, working_set_hash: str, toolset_hash: str = ""
    ) -> PackedContext | None:
        key = _Key(session_id, model_id, token_budget, working_set_hash, toolset_hash)
        packed = self._packs.get(key)
        if packed is None:
            self._misses += 1
            return None
        self._hits += 1
        self._packs.move_to_end(key)
        return packed

    def put(
        self,
        session_id: str,
        model_id: str,
        token_budget: int,
        working_set_hash: str,
        packed: PackedContext,
        toolset_hash: str = "",
    ) -> None:
        key = _Key(session_id, model_id, token_budget, working_set_hash, toolset_hash)
        self._packs[key] = packed
        self._packs.move_to_end(key)
        if len(self._packs) > self.max_entries:
            self._packs.popitem(last=False)
            self._evictions += 1

    def invalidate_session(self, session_id: str) -> int:
        """Forget the session's packs, and say how many there were."""
        stale = [key for key in self._packs if key.session_id == session_id]
        for key in stale:
            del self._packs[key]
        self._invalidations += len(stale)
        return len(stale)

    def invalidate_all(self) -> None:
        self._invalidations += len(self._packs)
        self._packs.clear()

    @property
    def size(self) -> int:
        return len(self._packs)

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 0 before the first lookup."""
        lookups = self._hits + self._misses
        return self._hits / lookups if lookups else 0.0

    def get_stats(self) -> PackCacheStats:
        return PackCacheStats(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            invalidations=self._invalidations,
            size=self.size,
            max_size=self.max_entries,
        )


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
