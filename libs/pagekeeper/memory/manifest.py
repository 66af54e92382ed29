"""VM:MANIFEST_JSON: the pages that a model may fault in, and what a fault may cost it.

A view over `pagekeeper.core.manifest`, which writes the JSON: one entry a line, and no string in it acts as the
prompt's structure.
"""

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from pagekeeper.core import manifest as core
from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.effects import Pressure
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import CompressionLevel, Modality, StorageTier
from pagekeeper.core.prompt import MANIFEST_CLOSES, MANIFEST_OPENS
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import MemoryPage, PageTableEntry
from pagekeeper.memory.models.page import MEDIA
from pagekeeper.memory.models.strict import GuardedModel, StrictModel, guard_lines
from pagekeeper.memory.page_view import content_text, description_of, readable_text

__all__ = [
    "AvailablePageEntry",
    "HintType",
    "ManifestBuilder",
    "ManifestPolicies",
    "VMManifest",
    "WorkingSetEntry",
    "generate_simple_hint",
]

_COMPRESSORS: Final = CompressorRegistry.default()


class WorkingSetEntry(StrictModel):
    """A page that the prompt shows; `importance` from 0 to 1."""

    page_id: str
    modality: Modality
    level: CompressionLevel
    tokens_est: int
    importance: float = 0.5


class AvailablePageEntry(StrictModel):
    """A page that a fault would bring. The hint is for finding the page, and is no evidence."""

    page_id: str
    modality: Modality
    tier: StorageTier
    levels: list[CompressionLevel] = Field(default_factory=lambda: list(CompressionLevel))
    hint: str = ""


class ManifestPolicies(StrictModel):
    """The model's options for unseen pages. `faults_remaining` defaults to `max_faults_per_turn`."""

    faults_allowed: bool = True
    max_faults_per_turn: int = 3
    faults_remaining: int | None = None
    upgrade_budget_tokens: int = 4096
    prefer_levels: list[int] = Field(default_factory=lambda: [2, 1, 0])


class NotListed(StrictModel):
    """Counts of pages that exist and are not listed."""

    working_set: int = 0
    available_pages: int = 0


class VMManifest(GuardedModel):
    """A manifest, whose JSON a model reads."""

    session_id: str
    working_set: list[WorkingSetEntry] = Field(default_factory=list)
    available_pages: list[AvailablePageEntry] = Field(default_factory=list)
    policies: ManifestPolicies = Field(default_factory=ManifestPolicies)
    pressure: Literal["low", "medium", "high", "critical"] = "low"
    not_listed: NotListed = Field(default_factory=NotListed)

    def model_dump_json(self, **options: Any) -> str:  # noqa: ANN401 - pydantic's options, handed on
        """The core's JSON, one entry a line; pydantic's JSON when an option is given."""
        if any(value is not None for value in options.values()):
            return guard_lines(super().model_dump_json(**options))
        return core.render_manifest(self._as_core(), tokens_max=0, count=_free).text.rstrip("\n")

    def to_wrapped_json(self, indent: int | None = None) -> str:
        return f"{MANIFEST_OPENS}{self.to_json(indent)}\n{MANIFEST_CLOSES.rstrip()}"

    def _as_core(self) -> core.Manifest:
        policies = self.policies
        remaining = policies.max_faults_per_turn if policies.faults_remaining is None else policies.faults_remaining
        return core.Manifest(
            session_id=self.session_id,
            layout=PromptLayout.CLASSIC,
            policies=core.ManifestPolicies(
                policies.faults_allowed,
                policies.max_faults_per_turn,
                remaining,
                policies.upgrade_budget_tokens,
                tuple(policies.prefer_levels),
            ),
            pressure=Pressure[self.pressure.upper()],
            working_set=[
                *(core.working_set_line(core.WorkingSetEntry(**dict(entry)), _free) for entry in self.working_set),
                *[_UNLISTED] * self.not_listed.working_set,
            ],
            available_pages=[
                *(
                    core.available_line(core.AvailablePageEntry(**dict(entry)), PromptLayout.CLASSIC, _free)
                    for entry in self.available_pages
                ),
                *[_UNLISTED] * self.not_listed.available_pages,
            ],
        )


@checked
class ManifestBuilder(StrictModel):
    """Collects the entries of a manifest, in the order in which they are listed."""

    session_id: str = ""
    policies: ManifestPolicies = Field(default_factory=ManifestPolicies)
    working_set: list[WorkingSetEntry] = Field(default_factory=list)
    available_pages: list[AvailablePageEntry] = Field(default_factory=list)

    def add_working_set_page(self, page: MemoryPage) -> None:
        self.working_set.append(
            WorkingSetEntry(
                page_id=page.page_id,
                modality=page.modality,
                level=page.compression_level,
                tokens_est=page.estimate_tokens(),
                importance=page.importance,
            )
        )

    def add_available_page(self, page: MemoryPage, hint: str = "") -> None:
        """Offer the page at the levels that it can be shown at. An empty hint means `generate_simple_hint`."""
        self.add_available_page_entry(
            AvailablePageEntry(
                page_id=page.page_id,
                modality=page.modality,
                tier=page.storage_tier,
                levels=levels_from(page.full.compression_level),
                hint=hint or generate_simple_hint(page),
            )
        )

    def add_available_page_entry(self, entry: AvailablePageEntry) -> None:
        self.available_pages.append(entry)

    def build(self) -> VMManifest:
        """The manifest of what was added: the last entry of an id counts, and a page that is shown is not offered."""
        shown = {entry.page_id: entry for entry in self.working_set}
        offered = {entry.page_id: entry for entry in self.available_pages if entry.page_id not in shown}
        return VMManifest(
            session_id=self.session_id,
            working_set=list(shown.values()),
            available_pages=list(offered.values()),
            policies=self.policies,
        )

    def to_wrapped_json(self, indent: int | None = None) -> str:
        return self.build().to_wrapped_json(indent)


class HintType(StrEnum):
    """The kind of a hint: the page's topics, words of it, or its modality and tier."""

    TOPIC = "topic"
    SUMMARY = "summary"
    MODALITY = "modality"


@checked
def generate_simple_hint(page: MemoryPage | PageTableEntry, hint_type: HintType = HintType.SUMMARY) -> str:
    """One line for finding a page, made by the core of its content; modality and tier where there is no content."""
    if hint_type is HintType.MODALITY or not isinstance(page, MemoryPage) or not readable_text(page):
        tier = page.storage_tier if isinstance(page, MemoryPage) else page.tier
        return f"{page.modality.value} from {tier.value}"
    text, media = content_text(page) or "", description_of(page) if page.modality in MEDIA else None
    source = Source(page.page_id, page.modality, text, media)
    topics = _COMPRESSORS.compress(source, CompressionLevel.REFERENCE, len) if hint_type is HintType.TOPIC else None
    return make_hint(text, page.modality, media) if topics is None else topics.text


def levels_from(level: CompressionLevel) -> list[CompressionLevel]:
    """The levels at which a page kept at `level` can be shown: that level and all lower ones."""
    return [lower for lower in CompressionLevel if lower >= level]


def _free(_text: str) -> int:
    """Count no tokens: the manifest's entries are bounded by who adds them."""
    return 0


_UNLISTED: Final = core.ManifestLine("", "", 1, 1)
"""An entry that does not fit into 0 tokens: the core counts it as not listed."""
