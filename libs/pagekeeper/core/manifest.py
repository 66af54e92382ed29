"""The manifest: the pages that the model may fault in, and the cost of a fault.

Invariant: the rendered JSON has one entry per line and ends in a line break, so its tokens are the sum of its lines'
(see `packing`), and it never exceeds the bound it is given: the least relevant entries go first, and how many went is
said. The same input gives the same bytes.

Hints are for finding pages. They are made from content, so they are written as JSON strings that cannot act as the
prompt's structure. A manifest never holds a page's content.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pagekeeper.core.effects import Pressure
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.escape import guard_json
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.pages import Modality, StorageTier


@dataclass(frozen=True, slots=True)
class ManifestPolicies:
    """The model's options for pages that the prompt does not show."""

    faults_allowed: bool = True
    max_faults_per_turn: int = 3
    faults_remaining: int = 3
    upgrade_budget_tokens: int = 4096
    prefer_levels: tuple[int, ...] = (2, 1, 0)


@dataclass(frozen=True, slots=True)
class WorkingSetEntry:
    """A page that the prompt shows."""

    page_id: str
    modality: Modality
    level: int
    tokens_est: int
    importance: float


@dataclass(frozen=True, slots=True)
class AvailablePageEntry:
    """A page that the prompt does not show and a fault would bring."""

    page_id: str
    modality: Modality
    tier: StorageTier
    levels: tuple[int, ...]
    hint: str


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """An entry as JSON. `tokens` counts `text` with a comma and a line break behind it, `tokens_last` without comma."""

    page_id: str
    text: str
    tokens: int
    tokens_last: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a manifest. Entries are in order of relevance, the most relevant first.

    CLASSIC has the guide's shape. CACHE_STABLE says what a model acts on in less than half the tokens, and nothing that
    changes while no page is evicted: of an available page its id and hint, and its modality when it is not text. It
    does not name the session, so a fork's prompts begin as the parent's do. The rest is in the status, see
    `status_json`.
    """

    session_id: str
    layout: PromptLayout
    policies: ManifestPolicies
    pressure: Pressure
    working_set: Sequence[ManifestLine]
    available_pages: Sequence[ManifestLine]


@dataclass(frozen=True, slots=True)
class RenderedManifest:
    """`tokens` is the token count of `text`; `listed` the available pages in it, `omitted` how many are not."""

    text: str
    tokens: int
    listed: tuple[str, ...]
    omitted: int


def working_set_line(entry: WorkingSetEntry, count: Callable[[str], int]) -> ManifestLine:
    """For the CLASSIC layout, the only one that lists the working set."""
    fields = {
        "page_id": entry.page_id,
        "modality": entry.modality.value,
        "level": entry.level,
        "tokens_est": entry.tokens_est,
        "importance": round(entry.importance, 2),
    }
    return _line(entry.page_id, _json(fields), count)


def available_line(entry: AvailablePageEntry, layout: PromptLayout, count: Callable[[str], int]) -> ManifestLine:
    modality, hint = entry.modality.value, entry.hint
    match layout:
        case PromptLayout.CLASSIC:
            tier, levels = entry.tier.value, list(entry.levels)
            fields = {"page_id": entry.page_id, "modality": modality, "tier": tier, "levels": levels, "hint": hint}
            return _line(entry.page_id, _json(fields), count)
        case PromptLayout.CACHE_STABLE:
            known = hint if entry.modality is Modality.TEXT else {"modality": modality, "hint": hint}
            return _line(entry.page_id, f"{_json(entry.page_id)}:{_json(known)}", count)


def status_json(policies: ManifestPolicies, pressure: Pressure) -> str:
    """The status that changes from turn to turn, for the end of a CACHE_STABLE prompt."""
    return _json({"pressure": pressure.name.lower(), **_remaining(policies)})


def _remaining(policies: ManifestPolicies) -> dict[str, int]:
    return {
        "faults_remaining": policies.faults_remaining if policies.faults_allowed else 0,
        "upgrade_budget_tokens": policies.upgrade_budget_tokens,
    }


def floor_tokens(manifest: Manifest, count: Callable[[str], int], *, more_entries: int = 0) -> int:
    """Tokens of a manifest without entries: the least bound that `render_manifest` accepts.

    Also the least bound for a manifest with up to `more_entries` more of either kind.
    """
    omitted_resident = len(manifest.working_set) + more_entries
    omitted_available = len(manifest.available_pages) + more_entries
    return sum(count(piece) for piece in _frame(manifest, omitted_resident, omitted_available))


def render_manifest(manifest: Manifest, *, tokens_max: int, count: Callable[[str], int]) -> RenderedManifest:
    """The manifest in at most `tokens_max` tokens; available pages come before the working set's entries.

    Raises BudgetTooSmall when not even an empty list fits.
    """
    room_tokens = tokens_max - floor_tokens(manifest, count)
    if room_tokens < 0:
        raise BudgetTooSmall(budget_tokens=tokens_max, needed_tokens=tokens_max - room_tokens)
    available, available_tokens = _fitting(manifest.available_pages, room_tokens)
    working_set = manifest.working_set if manifest.layout is PromptLayout.CLASSIC else ()
    resident, resident_tokens = _fitting(working_set, room_tokens - available_tokens)
    omitted = len(manifest.available_pages) - len(available)
    frame = _frame(manifest, len(manifest.working_set) - len(resident), omitted)
    blocks = [resident, available] if manifest.layout is PromptLayout.CLASSIC else [available]
    text = frame[0] + "".join([_block(lines) + closing for lines, closing in zip(blocks, frame[1:], strict=True)])
    tokens = sum(map(count, frame)) + available_tokens + resident_tokens
    return RenderedManifest(text, tokens, tuple(line.page_id for line in available), omitted)


def _frame(manifest: Manifest, omitted_resident: int, omitted_available: int) -> list[str]:
    """The JSON around the lists: what comes before the first, then what closes each."""
    match manifest.layout:
        case PromptLayout.CLASSIC:
            policies = {
                "faults_allowed": manifest.policies.faults_allowed,
                "max_faults_per_turn": manifest.policies.max_faults_per_turn,
                **_remaining(manifest.policies),
                "prefer_levels": list(manifest.policies.prefer_levels),
            }
            head = {"session_id": manifest.session_id, "pressure": manifest.pressure.name.lower()}
            omitted = {"working_set": omitted_resident, "available_pages": omitted_available}
            return [
                f'{_json(head)[:-1]},"working_set":[\n',
                '],"available_pages":[\n',
                f'],"not_listed":{_json(omitted)},"policies":{_json(policies)}}}\n',
            ]
        case PromptLayout.CACHE_STABLE:
            return ['{"available_pages":{\n', f'}},"not_listed":{omitted_available}}}\n']


def _fitting(lines: Sequence[ManifestLine], room_tokens: int) -> tuple[Sequence[ManifestLine], int]:
    """The longest run from the front that fits, and its tokens: the last entry has no comma behind it."""
    before_tokens = tokens = fitting = 0
    for line in lines:
        if before_tokens + line.tokens_last > room_tokens:
            break
        tokens = before_tokens + line.tokens_last
        before_tokens += line.tokens
        fitting += 1
    return lines[:fitting], tokens


def _block(lines: Sequence[ManifestLine]) -> str:
    return ",\n".join([line.text for line in lines]) + "\n" if lines else ""


def _line(page_id: str, text: str, count: Callable[[str], int]) -> ManifestLine:
    return ManifestLine(page_id, text, count(f"{text},\n"), count(f"{text}\n"))


def _json(value: object) -> str:
    return guard_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
