"""The division of a prompt's room among its pages and its manifest.

Mandatory pages come first, then pages faulted in, then the context and what is recalled; the manifest gets what is
left. Invariant: what the parts take together never exceeds the room.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pagekeeper.core.chat_parts import ChatLimits, ChatParts
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.manifest import (
    Manifest,
    ManifestLine,
    RenderedManifest,
    WorkingSetEntry,
    render_manifest,
    working_set_line,
)
from pagekeeper.core.packing import PackedContext, PackedLine, pack_by_utility
from pagekeeper.core.prompt_section import PromptPage


@dataclass(frozen=True, slots=True)
class Shares:
    """The division of the room among the parts of a prompt."""

    faulted: PackedContext
    recalled: PackedContext
    context: PackedContext
    manifest: RenderedManifest


def share(
    parts: ChatParts,
    limits: ChatLimits,
    room_tokens: int,
    empty_manifest_tokens: int,
    count: Callable[[str], int],
    first: ManifestLine | None,
) -> Shares:
    """Divide `room_tokens` between pages and the manifest's entries, of which `first` has its place in any case.

    Raises BudgetTooSmall.
    """
    context, faulted, recalled = parts.context, parts.faulted, parts.recalled
    first_tokens = first.tokens if first is not None else 0
    room_tokens -= first_tokens
    missing_tokens = context.floor_tokens + faulted.floor_tokens - room_tokens
    if missing_tokens > 0:
        raise BudgetTooSmall(limits.budget_tokens, limits.budget_tokens + missing_tokens)
    faulted_pack = faulted.packed(room_tokens - context.floor_tokens)
    room_tokens -= faulted_pack.tokens
    entries_max = max(0, limits.manifest_tokens_max - empty_manifest_tokens)
    kept_back = min(_entries_tokens(parts, room_tokens, entries_max, count), room_tokens - context.floor_tokens)
    if parts.utility and context.tokens > room_tokens:
        # Not all that is resident fits, so what is shown is what the words call for, wherever it is; pages say more
        # than their entries.
        kept_back = 0
        context_pack, recalled_pack = pack_by_utility(
            ([page.page for page in context], [page.page for page in recalled]),
            budget_tokens=room_tokens,
            utility=_utility(parts, (*context, *recalled)),
            eviction_order=parts.eviction_order,
        )
        room_tokens -= context_pack.tokens
    else:
        context_pack = context.packed(room_tokens - kept_back, parts.eviction_order)
        room_tokens -= context_pack.tokens
        recalled_max = min(limits.recall_tokens_max, max(0, room_tokens - kept_back))
        (recalled_pack,) = pack_by_utility(
            ([page.page for page in recalled],), budget_tokens=recalled_max, utility=_utility(parts, recalled)
        )
    room_tokens -= recalled_pack.tokens
    left_out = frozenset(nowhere(context_pack, faulted_pack, recalled_pack))
    listed = [page.entry for page in (*context, *faulted) if page.page.line.page_id in left_out] if left_out else []
    available = parts.available
    shown: dict[str, PackedLine] = {}
    if parts.layout is PromptLayout.CLASSIC:  # the other one does not change for what is shown in this prompt alone
        packs = (faulted_pack, recalled_pack, context_pack)
        shown = {line.page_id: line for pack in packs for line in pack.included}
        available = [line for line in available if line.page_id not in shown]
    rendered = render_manifest(
        manifest_of(parts, tuple(shown.values()), _in_order(first, listed, available), count),
        tokens_max=empty_manifest_tokens + first_tokens + min(room_tokens, max(0, entries_max - first_tokens)),
        count=count,
    )
    return Shares(faulted_pack, recalled_pack, context_pack, rendered)


def _in_order(
    first: ManifestLine | None, left_out: Sequence[ManifestLine], available: Sequence[ManifestLine]
) -> Sequence[ManifestLine]:
    """Entries of a manifest, the most relevant first."""
    if first is None:
        return [*left_out, *available]
    return [first, *left_out, *(line for line in available if line.page_id != first.page_id)]


def nowhere(*packs: PackedContext) -> tuple[str, ...]:
    """The pages that were left out of each of the packs that they were given to."""
    omitted = [page_id for pack in packs for page_id in pack.omitted]
    if not omitted:
        return ()
    shown = {line.page_id for pack in packs for line in pack.included}
    return tuple(page_id for page_id in omitted if page_id not in shown)


def _utility(parts: ChatParts, pages: Iterable[PromptPage]) -> dict[str, float]:
    """By page: how relevant it is, and up to three times that by how important it was said to be."""
    return {
        page.page.line.page_id: (0.5 + page.importance) * relevance
        for page in pages
        if (relevance := parts.utility.get(page.page.line.page_id, 0.0)) > 0.0
    }


def _entries_tokens(parts: ChatParts, room_tokens: int, tokens_max: int, count: Callable[[str], int]) -> int:
    """Tokens of the manifest's entries, up to the bound that matters: pages that will not fit become entries too."""
    listed = list(parts.available)
    if parts.layout is PromptLayout.CLASSIC:
        listed += _working_set(parts, parts.context.lines, count)
    wanted = _tokens_up_to(listed, tokens_max)
    if wanted + parts.context.tokens <= room_tokens:
        return wanted
    return _tokens_up_to([*listed, *(page.entry for page in parts.context)], tokens_max)


def _tokens_up_to(lines: Sequence[ManifestLine], tokens_max: int) -> int:
    tokens = 0
    for line in lines:
        tokens += line.tokens
        if tokens >= tokens_max:
            return tokens_max
    return tokens


def manifest_of(
    parts: ChatParts, shown: Sequence[PackedLine], available: Sequence[ManifestLine], count: Callable[[str], int]
) -> Manifest:
    return Manifest(
        session_id=parts.session_id,
        layout=parts.layout,
        policies=parts.policies,
        pressure=parts.pressure,
        working_set=_working_set(parts, shown, count) if parts.layout is PromptLayout.CLASSIC else (),
        available_pages=available,
    )


def _working_set(parts: ChatParts, shown: Sequence[PackedLine], count: Callable[[str], int]) -> list[ManifestLine]:
    pages = {page.page.line.page_id: page for page in (*parts.context, *parts.faulted, *parts.recalled)}
    return [
        working_set_line(
            WorkingSetEntry(
                line.page_id, pages[line.page_id].modality, line.level, line.tokens, pages[line.page_id].importance
            ),
            count,
        )
        for line in shown
    ]
