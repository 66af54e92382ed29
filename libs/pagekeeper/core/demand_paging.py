"""Which pages of a whole session a user's words bring into a prompt, and how much of the prompt they may take.

Recall ranks the session's pages (`recall`); here is what a prompt gets of them. A page that is recalled is in that one
prompt and changes nothing in the session: asking twice gives the same prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.events import DemandPaging, SessionConfig, VMMode
from pagekeeper.core.pages import PageState
from pagekeeper.core.recall import BESIDE_SHARE_MIN, Recalled, recall
from pagekeeper.core.recall_intent import RECALL_TURNS_WINDOW, RecallIntent, recall_intent_of, recall_room
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.session import Session

RECALLED_MAX: Final = 512
"""Pages that one prompt may recall."""


@dataclass(frozen=True, slots=True)
class RecallRoom:
    """Tokens that recalled pages may take: by `cue` where all residents fit, else `tokens_max`."""

    cue: RecallIntent | None
    budget_tokens: int
    tokens_max: int

    @property
    def residents_placed(self) -> bool:
        return self.cue is not None

    def tokens(self, calls_before: int = 0) -> int:
        if self.cue is None:
            return self.tokens_max
        return recall_room(self.cue, self.budget_tokens, self.tokens_max, calls_before)


@dataclass(frozen=True, slots=True)
class RecalledPage:
    """A page that the words call for. `utility` from 0 to 1; a resident page is in the prompt by its own right."""

    page: PageState
    utility: float
    resident: bool


@dataclass(frozen=True, slots=True)
class RecalledPages:
    """Recalled pages, highest utility first. `calls_before` counts the recent recall turns before this one."""

    pages: tuple[RecalledPage, ...]
    calls_before: int


def room_for(
    words: str,
    config: SessionConfig,
    *,
    budget_tokens: int,
    tools_tokens: int,
    resident_tokens: int,
    everything_shown: bool,
) -> RecallRoom:
    """The whole budget when it has no room for all that is resident anyway; else what the words' cue allows.

    `everything_shown` says that no page of the session is missing or shortened in the prompt.
    """
    if resident_tokens + tools_tokens > budget_tokens:
        return RecallRoom(None, budget_tokens, budget_tokens)
    cue = RecallIntent.NONE if everything_shown else recall_intent_of(words)
    return RecallRoom(cue, budget_tokens, config.max_fault_tokens_per_turn)


def mode_for(paging: DemandPaging, mode: VMMode) -> VMMode:
    """The rules of a prompt: a model that is not to page itself gets those without tools."""
    return VMMode.PASSIVE if paging is DemandPaging.RUNTIME else mode


def recalled_pages(
    session: Session, index: SessionIndex, query: str, *, room_tokens: int, residents_placed: bool
) -> RecalledPages:
    """The pages that `query` calls for, as far as there may be room for them."""
    found = recall(index, query, limit=RECALLED_MAX)
    calls_before = index.recall_turns_since(session.turn - RECALL_TURNS_WINDOW + 1, query)
    pages = _fitting(session, found, room_tokens, residents_placed=residents_placed)
    return RecalledPages(tuple(pages), calls_before)


def _fitting(
    session: Session, found: Sequence[Recalled], room_tokens: int, *, residents_placed: bool
) -> Iterator[RecalledPage]:
    utility_min = _utility_min(session, found) if residents_placed else 0.0
    for ranked in found:
        page = session.page(ranked.page_id)
        if page is None:
            continue
        resident = page.page_id in session.working_set
        if not (resident and residents_placed):
            # The shortest line that the page has: what it takes of the room at least.
            room_tokens -= min(level.size_tokens for level in page.current.representations)
        if room_tokens < 0 or ranked.utility < utility_min:
            return
        yield RecalledPage(page, ranked.utility, resident)


def _utility_min(session: Session, found: Sequence[Recalled]) -> float:
    best = next((ranked.utility for ranked in found if ranked.page_id not in session.working_set), 0.0)
    return best * BESIDE_SHARE_MIN
