"""Packed contexts that are still good: nothing is packed again while the same pages go to the same model.

A pack is found under everything that it depends on: session, model, budget, working set and toolset. The least recently
used goes when there are more than `max_entries`.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

from pagekeeper.core.lru import Lru
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.context_packer import PackedContext

__all__ = ["ContextPackCache"]


@checked
class ContextPackCache:
    def __init__(self, max_entries: int = 32) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be positive, not {max_entries}")
        self.max_entries = max_entries
        self._packs: Lru[tuple[str, str, int, str, str], PackedContext] = Lru(count_max=max_entries)
        self._hits = self._lookups = 0

    def __repr__(self) -> str:
        return f"ContextPackCache({self.size:,} of {self.max_entries:,} packs)"

    @staticmethod
    def compute_working_set_hash(page_ids: Iterable[str], versions: Mapping[str, int] | None = None) -> str:
        """SHA-256 of the pages, whatever their order, and of their versions when given."""
        known = versions or {}
        pages = sorted((page_id, known.get(page_id, 0)) for page_id in page_ids)
        return sha256(json.dumps(pages).encode()).hexdigest()

    def get(
        self, session_id: str, model_id: str, token_budget: int, working_set_hash: str, toolset_hash: str = ""
    ) -> PackedContext | None:
        packed = self._packs.get((session_id, model_id, token_budget, working_set_hash, toolset_hash))
        self._lookups += 1
        self._hits += packed is not None
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
        self._packs.put((session_id, model_id, token_budget, working_set_hash, toolset_hash), packed)

    def invalidate_session(self, session_id: str) -> int:
        """Forget the session's packs, and say how many there were."""
        stale = [key for key, _ in self._packs.items() if key[0] == session_id]
        for key in stale:
            self._packs.pop(key)
        return len(stale)

    @property
    def size(self) -> int:
        return len(self._packs)

    @property
    def hit_rate(self) -> float:
        """Lookups that found a pack / lookups, from 0 to 1; 0 before the first lookup."""
        return self._hits / self._lookups if self._lookups else 0.0
