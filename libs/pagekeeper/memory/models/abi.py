"""The room that a model's window has for pages, what of it is reserved, and which pages to give up first."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from pydantic import Field

from pagekeeper.memory.models.enums import CompressionLevel, Modality, PageType
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.tokens import estimated_tokens

__all__ = ["MemoryABI", "PageManifestEntry"]


class PageManifestEntry(StrictModel):
    """A page in context: its size, its importance, and whether it may be evicted or compressed."""

    page_id: str
    modality: Modality
    page_type: PageType
    compression_level: CompressionLevel
    tokens: int
    importance: float
    provenance: list[str] = Field(default_factory=list)
    can_evict: bool = True
    can_compress: bool = True


def _modality_weights() -> dict[Modality, float]:
    return {Modality.TEXT: 1.0, Modality.IMAGE: 0.8, Modality.AUDIO: 0.6, Modality.VIDEO: 0.4}


class MemoryABI(StrictModel):
    """All sizes are tokens. `active_toolset_hash`: SHA-256 of the tools that `tool_schema_tokens_reserved` counts."""

    pages: list[PageManifestEntry] = Field(default_factory=list)
    faults_allowed: bool = True
    upgrade_budget_tokens: int = 2_048
    max_context_tokens: int = 128_000
    reserved_tokens: int = 2_000
    tool_schema_tokens_reserved: int = 0
    active_toolset_hash: str | None = None
    modality_weights: dict[Modality, float] = Field(default_factory=_modality_weights)

    @property
    def available_tokens(self) -> int:
        """max_context_tokens - reserved_tokens - tool_schema_tokens_reserved, at least 0."""
        return max(0, self.max_context_tokens - self.reserved_tokens - self.tool_schema_tokens_reserved)

    @property
    def excess_tokens(self) -> int:
        """Tokens of the pages above `available_tokens`; 0 when the pages fit."""
        return max(0, sum(page.tokens for page in self.pages) - self.available_tokens)

    def with_tools(
        self, tools: Sequence[Mapping[str, Any]], count: Callable[[str], int] = estimated_tokens
    ) -> "MemoryABI":
        """A copy that reserves the tokens of these tools' schemas, by `count`. The hash is the same in any order."""
        schemas = sorted(json.dumps(tool, sort_keys=True, separators=(",", ":")) for tool in tools)
        return self.model_copy(
            update={
                "tool_schema_tokens_reserved": sum(count(schema) for schema in schemas),
                "active_toolset_hash": sha256("\n".join(schemas).encode()).hexdigest(),
            }
        )

    def to_give_up(self) -> list[PageManifestEntry]:
        """Pages to compress or evict until the rest fits, the lowest value a token first.

        Value a token = importance * modality weight / tokens; a modality without weight has 1. A page that may neither
        be compressed nor evicted is not among the pages.
        """
        given_up: list[PageManifestEntry] = []
        excess_tokens = self.excess_tokens
        for page in sorted(self.pages, key=self._missed):
            if excess_tokens <= 0:
                break
            if page.tokens and (page.can_evict or page.can_compress):
                given_up.append(page)
                excess_tokens -= page.tokens
        return given_up

    def _missed(self, page: PageManifestEntry) -> float:
        return page.importance * self.modality_weights.get(page.modality, 1.0) / max(1, page.tokens)
