"""VM:MANIFEST_JSON: the pages that a model may fault in, and what a fault may cost it.

A view over `pagekeeper.core.manifest`, which writes the JSON: one entry a line, within a bound of tokens, and no string
in it acts as the prompt's structure. A bound drops the least relevant entries; `not_listed` counts them.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import AliasChoices, ConfigDict, Field

from pagekeeper.core import manifest as core
from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.effects import Pressure
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import CompressionLevel, Modality, StorageTier
from pagekeeper.core.prompt import MANIFEST_CLOSES, MANIFEST_OPENS
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import ALL_COMPRESSION_LEVELS, MemoryPage, PageTableEntry
from pagekeeper.memory.models.guarded import GuardedModel, guard_lines
from pagekeeper.memory.models.page import MEDIA
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.page_view import content_text, description_of, readable_text
from pagekeeper.memory.tokens import estimated_tokens

__all__ = [
    "AvailablePageEntry",
    "HintType",
    "ManifestBuilder",
    "ManifestPolicies",
    "VMManifest",
    "WorkingSetEntry",
    "generate_simple_hint",
]

UNKNOWN_TOKENS: Final = 100
"""Estimate for a page whose size the page table does not know."""
_NEVER_FITS: Final = core.ManifestLine("", "", sys.maxsize, sys.maxsize)
"""A placeholder for an entry that is not listed: the core counts what does not fit."""


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


@checked
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
        return core.render_manifest(self.as_core(_free), tokens_max=0, count=_free).text.rstrip("\n")

    def to_wrapped_json(self, indent: int | None = None) -> str:
        return f"{MANIFEST_OPENS}{self.to_json(indent)}\n{MANIFEST_CLOSES.rstrip()}"

    def as_core(self, count: Callable[[str], int]) -> core.Manifest:
        """The core's manifest, with the tokens of each line by `count`."""
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
                *(core.working_set_line(_core_resident(entry), count) for entry in self.working_set),
                *[_NEVER_FITS] * self.not_listed.working_set,
            ],
            available_pages=[
                *(
                    core.available_line(_core_available(entry), PromptLayout.CLASSIC, count)
                    for entry in self.available_pages
                ),
                *[_NEVER_FITS] * self.not_listed.available_pages,
            ],
        )


@checked
class ManifestBuilder(StrictModel):
    """Collects the entries of a manifest from pages, entries and a page table, and keeps the manifest within bounds.

    Order of entries: by the `relevance` that `build` is given; then added entries in the order of adding; then entries
    of the page table, by `PageTableEntry.eviction_priority` ascending and the latest access first.
    """

    model_config = ConfigDict(populate_by_name=True)

    session_id: str = ""
    policies: ManifestPolicies = Field(
        default_factory=ManifestPolicies, validation_alias=AliasChoices("policies", "default_policies")
    )
    pressure: Literal["low", "medium", "high", "critical"] = "low"
    max_available_pages: int = Field(default=50, ge=0)
    max_tokens: int | None = None
    """Most tokens of the JSON, by `count`; None for no bound."""
    count: Callable[[str], int] = Field(default=estimated_tokens, exclude=True)
    working_set: list[WorkingSetEntry] = Field(default_factory=list)
    available_pages: list[AvailablePageEntry] = Field(default_factory=list)

    def add_working_set_page(self, page: MemoryPage) -> None:
        self.working_set.append(_resident(page))

    def add_available_page(self, page: MemoryPage, hint: str = "") -> None:
        """Offer the page. An empty hint is replaced by `generate_simple_hint`."""
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

    def build(  # noqa: PLR0913 - the guide's signature
        self,
        session_id: str | None = None,
        page_table: PageTable | None = None,
        working_set_ids: Sequence[str] = (),
        working_set_tokens: Mapping[str, int] | None = None,
        working_set_importance: Mapping[str, float] | None = None,
        *,
        hint_generator: Callable[[PageTableEntry], str] | None = None,
        policies: ManifestPolicies | None = None,
        relevance: Mapping[str, float] | None = None,
    ) -> VMManifest:
        """The manifest of what was added and of `page_table`: `working_set_ids` as shown, other pages as available.

        `relevance`: by page id, from 0 to 1. An id of `working_set_ids` that the table does not know is left out.
        Raises BudgetTooSmall when `max_tokens` has no room for an empty manifest.
        """
        tokens, importance = working_set_tokens or {}, working_set_importance or {}
        entries = {} if page_table is None else page_table.entries
        shown = [
            WorkingSetEntry(
                page_id=page_id,
                modality=entry.modality,
                level=entry.compression_level,
                tokens_est=tokens.get(page_id, UNKNOWN_TOKENS if entry.size_tokens is None else entry.size_tokens),
                importance=importance.get(page_id, 0.5),
            )
            for page_id in working_set_ids
            if (entry := entries.get(page_id)) is not None
        ]
        others = entries.values()
        return self._bounded(session_id, [*self.working_set, *shown], others, hint_generator, policies, relevance or {})

    def build_from_pages(
        self,
        session_id: str,
        working_set_pages: Sequence[MemoryPage],
        available_entries: Iterable[PageTableEntry],
        hint_generator: Callable[[PageTableEntry], str] | None = None,
        policies: ManifestPolicies | None = None,
    ) -> VMManifest:
        """`build` from pages and entries at hand. Raises BudgetTooSmall as `build` does."""
        shown = [_resident(page) for page in working_set_pages]
        return self._bounded(session_id, [*self.working_set, *shown], available_entries, hint_generator, policies, {})

    def to_wrapped_json(self, indent: int | None = None) -> str:
        return self.build().to_wrapped_json(indent)

    def _bounded(
        self,
        session_id: str | None,
        shown: Sequence[WorkingSetEntry],
        others: Iterable[PageTableEntry],
        hint_generator: Callable[[PageTableEntry], str] | None,
        policies: ManifestPolicies | None,
        relevance: Mapping[str, float],
    ) -> VMManifest:
        residents = {entry.page_id: entry for entry in shown}
        added = {entry.page_id: entry for entry in self.available_pages if entry.page_id not in residents}
        ranked = [entry for entry in others if entry.page_id not in residents and entry.page_id not in added]
        ranked.sort(key=_missed_least_last)
        candidates: list[AvailablePageEntry | PageTableEntry] = [*added.values(), *ranked]
        candidates.sort(key=lambda entry: -relevance.get(entry.page_id, 0.0))
        listed = candidates[: self.max_available_pages]
        manifest = VMManifest(
            session_id=self.session_id if session_id is None else session_id,
            working_set=list(residents.values()),
            available_pages=[
                entry if isinstance(entry, AvailablePageEntry) else _available(entry, hint_generator)
                for entry in listed
            ],
            policies=self.policies if policies is None else policies,
            pressure=self.pressure,
            not_listed=NotListed(available_pages=len(candidates) - len(listed)),
        )
        return manifest if self.max_tokens is None else _within(manifest, self.max_tokens, self.count)


class HintType(StrEnum):
    """The kind of a hint: the page's topic, words of it, or its tier and level."""

    TOPIC = "topic"
    SUMMARY = "summary"
    MODALITY = "modality"
    RECENT = "recent"
    STORED = "stored"
    ARCHIVED = "archived"
    EXCERPT = "excerpt"
    CONTENT = "content"


_COMPRESSORS: Final = CompressorRegistry.default()
_WORD_OF_TIER: Final = {
    StorageTier.L2: HintType.RECENT,
    StorageTier.L3: HintType.STORED,
    StorageTier.L4: HintType.ARCHIVED,
}
_WORD_OF_LEVEL: Final = {CompressionLevel.ABSTRACT: HintType.SUMMARY, CompressionLevel.REDUCED: HintType.EXCERPT}


@checked
def generate_simple_hint(page: MemoryPage | PageTableEntry, hint_type: HintType | None = None) -> str:
    """One line for finding a page: the core's hint where content is at hand, otherwise modality, tier and level.

    HintType.MODALITY asks for modality and tier, HintType.TOPIC for the topics alone. Other kinds choose by the page.
    """
    tier = page.storage_tier if isinstance(page, MemoryPage) else page.tier
    if hint_type is HintType.MODALITY:
        return f"{page.modality.value} from {tier.value}"
    if isinstance(page, MemoryPage) and readable_text(page):
        text, media = content_text(page) or "", description_of(page) if page.modality in MEDIA else None
        source = Source(page.page_id, page.modality, text, media)
        topics = _COMPRESSORS.compress(source, CompressionLevel.REFERENCE, len) if hint_type is HintType.TOPIC else None
        return make_hint(text, page.modality, media) if topics is None else topics.text
    words = [
        "" if page.modality is Modality.TEXT else page.modality.value,
        _WORD_OF_TIER.get(tier, ""),
        _WORD_OF_LEVEL.get(page.compression_level, ""),
    ]
    return " ".join(filter(None, words)) or HintType.CONTENT.value


def levels_from(level: CompressionLevel) -> list[CompressionLevel]:
    """The levels at which a page kept at `level` can be shown: that level and all lower ones."""
    return [CompressionLevel(lower) for lower in ALL_COMPRESSION_LEVELS if lower >= level]


def _within(manifest: VMManifest, tokens_max: int, count: Callable[[str], int]) -> VMManifest:
    """The manifest with the first entries of each list, as many as fit. Raises BudgetTooSmall."""
    rendered = core.render_manifest(manifest.as_core(count), tokens_max=tokens_max, count=count)
    fitting = VMManifest.model_validate_json(rendered.text).not_listed
    dropped = fitting.working_set - manifest.not_listed.working_set
    return manifest.model_copy(
        update={
            "working_set": manifest.working_set[: len(manifest.working_set) - dropped],
            "available_pages": manifest.available_pages[: len(rendered.listed)],
            "not_listed": fitting,
        }
    )


def _resident(page: MemoryPage) -> WorkingSetEntry:
    return WorkingSetEntry(
        page_id=page.page_id,
        modality=page.modality,
        level=page.compression_level,
        tokens_est=page.estimate_tokens(),
        importance=page.importance,
    )


def _available(entry: PageTableEntry, hint_generator: Callable[[PageTableEntry], str] | None) -> AvailablePageEntry:
    return AvailablePageEntry(
        page_id=entry.page_id,
        modality=entry.modality,
        tier=entry.tier,
        levels=levels_from(entry.compression_level),
        hint="" if hint_generator is None else hint_generator(entry),
    )


def _missed_least_last(entry: PageTableEntry) -> tuple[float, float]:
    return entry.eviction_priority, -entry.last_accessed.timestamp()


def _core_resident(entry: WorkingSetEntry) -> core.WorkingSetEntry:
    return core.WorkingSetEntry(entry.page_id, entry.modality, entry.level, entry.tokens_est, entry.importance)


def _core_available(entry: AvailablePageEntry) -> core.AvailablePageEntry:
    return core.AvailablePageEntry(entry.page_id, entry.modality, entry.tier, tuple(entry.levels), entry.hint)


def _free(_text: str) -> int:
    return 0
