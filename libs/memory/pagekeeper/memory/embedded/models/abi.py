"""What a model may expect of the memory, and the memory of a model: room, reservations and what can be given up."""

from pydantic import BaseModel, Field

from pagekeeper.memory.embedded.models.enums import CompressionLevel, Modality, PageType


class PageManifestEntry(BaseModel):
    """A page in context and what may be done to it."""

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


class MemoryABI(BaseModel):
    """Sizes are tokens. `active_toolset_hash` changes with the tools whose schemas are reserved for."""

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
        """What is left for content."""
        return max(0, self.max_context_tokens - self.reserved_tokens - self.tool_schema_tokens_reserved)
