"""The lines of a session's pages in prompts, as one model's tokenizer counts them, kept from one prompt to the next.

A session has thousands of pages and a turn changes a few. So what a prompt shows of a page is made when the page has
changed, and a section of the prompt keeps its pages in order, with their tokens.

Invariant: everything here is what would be made of the session anew. It holds at one revision, and `keep_up` moves it
to the session's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pagekeeper.core.events import PromptLayout
from pagekeeper.core.following import Following
from pagekeeper.core.lines import facts_of_version, line_tokens, page_line
from pagekeeper.core.manifest import ManifestLine
from pagekeeper.core.offering import Place, SaidPlaces
from pagekeeper.core.packing import ContextPage, PackedLine
from pagekeeper.core.pages import PageState, StorageTier
from pagekeeper.core.prompt_parts import offered_line
from pagekeeper.core.prompt_section import PlacedSection, PromptPage, PromptSection
from pagekeeper.core.session import Session
from pagekeeper.core.working_set import Resident
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.runtime.tokens import ModelTokens, Tokenizer

OFFERED_KEPT_MAX: Final = 256
"""Lines of pages that are not in the context: a prompt offers 48 of them, and lists those that it recalls."""
REMEMBERED_CHARS_MAX: Final = 4_096
REMEMBERED_TEXTS_MAX: Final = 8_192
"""Counts that are remembered for a model, each of a text of at most REMEMBERED_CHARS_MAX: 32 Mi characters in all."""


@dataclass(slots=True)
class _Shown:
    """A resident page's entry in prompts, and what it was made of."""

    resident: Resident
    page: PageState
    prompt_page: PromptPage
    place: Place
    with_lower: PromptPage | None = None


class ShownResidents:
    """See the module. `recount` says that the pages' own counts are another tokenizer's."""

    def __init__(self, log: SessionLog, model: ModelTokens, *, recount: bool) -> None:
        self.model = model
        self.tokenizer = _remembering(model)
        self._log = log
        self._recount = recount
        self._following, self._said = Following(), SaidPlaces()
        self._layout: PromptLayout | None = None
        self._held_out = ""
        self._start_anew()

    @property
    def context(self) -> PromptSection:
        """The pages that were said into the prompt, but the one that was held out."""
        return self._context.section

    @property
    def faulted(self) -> PromptSection:
        """The pages that came by a fault."""
        return self._faulted.section

    @property
    def tokens(self) -> int:
        return self.context.tokens + self.faulted.tokens

    @property
    def lowered_total(self) -> int:
        """How many residents are not at their full level."""
        return self._lowered_total

    def keep_up(self, held_out: str = "") -> None:
        """Move to the session's revision. The page `held_out` is shown elsewhere in the prompt."""
        session = self._log.session
        changed = self._following.catch_up(session)
        if session.config.layout is not self._layout:
            self._layout, changed = session.config.layout, None
        self._said.keep_up(session, changed)
        if changed is None:
            self._start_anew()
            changed = [resident.page_id for resident in session.working_set]
        else:
            for page_id in changed:
                self._offered.pop(page_id, None)
        moved = () if held_out == self._held_out else (held_out, self._held_out)
        self._held_out = held_out
        for page_id in dict.fromkeys((*changed, *moved)):
            self._show(session, page_id)

    def with_lower_levels(self) -> tuple[PromptSection, PromptSection]:
        """Context and faulted pages with their lines at all lower levels, for a budget with no room for all of them."""
        context, faulted = (
            PromptSection([self._with_lower(self._shown[page.page.line.page_id]) for page in section])
            for section in (self.context, self.faulted)
        )
        return context, faulted

    def offered(self, page_ids: Iterable[str]) -> list[ManifestLine]:
        """The manifest's lines of these pages."""
        if len(self._offered) > OFFERED_KEPT_MAX:
            self._offered.clear()
        return [self._offered.get(page_id) or self._offer(page_id) for page_id in page_ids]

    def recalled(self, pages: Sequence[PageState]) -> PromptSection:
        """Pages that are in one prompt alone, at all their levels."""
        return PromptSection(
            PromptPage(
                ContextPage(levels[0], tuple(levels[1:])), page.modality, page.importance, *self.offered([page.page_id])
            )
            for page in pages
            for levels in [[self._line(page, one.level) for one in page.current.representations]]
        )

    def _start_anew(self) -> None:
        self._shown: dict[str, _Shown] = {}
        self._offered: dict[str, ManifestLine] = {}
        self._context, self._faulted = PlacedSection(), PlacedSection()
        self._lowered_total = 0

    def _show(self, session: Session, page_id: str) -> None:
        """Have the page in the section where it belongs now, or in none."""
        before = self._shown.pop(page_id, None)
        resident = session.working_set.get(page_id) if page_id != self._held_out else None
        if before is not None:
            self._lowered_total -= before.resident.level > 0
            self._section_of(before.resident).leave(before.place)
        if resident is not None:
            self._lowered_total += resident.level > 0
            shown = self._shown[page_id] = self._made(session, resident, before)
            self._section_of(resident).enter(shown.place, shown.prompt_page)

    def _section_of(self, resident: Resident) -> PlacedSection:
        return self._faulted if resident.faulted else self._context

    def _made(self, session: Session, resident: Resident, before: _Shown | None) -> _Shown:
        page = session.pages.at_hand[resident.page_id]
        if before is not None and before.resident is resident and _same(before.page, page):
            before.page = page
            return before
        prompt_page = PromptPage(
            page=ContextPage(self._line(page, resident.level), mandatory=page.pinned),
            modality=page.modality,
            importance=page.importance,
            entry=offered_line(page, StorageTier.L0, session.config.layout, self.tokenizer.count),
        )
        return _Shown(resident, page, prompt_page, self._said[resident.page_id])

    def _line(self, page: PageState, level: int) -> PackedLine:
        representation = page.current.at(level)
        assert representation is not None, "a level that the page has"
        content = self._log.content(representation)
        text = page_line(facts_of_version(page, page.current), level, content, representation.preview_mime_type)
        count, counted_tokens = self.tokenizer.count, representation.size_tokens
        tokens = count(text) if self._recount else line_tokens(text, counted_tokens, count)
        return PackedLine(page.page_id, level, text, tokens)

    def _with_lower(self, shown: _Shown) -> PromptPage:
        if shown.with_lower is None:
            lower = [
                self._line(shown.page, representation.level)
                for representation in shown.page.current.representations
                if representation.level > shown.resident.level
            ]
            page = shown.prompt_page
            shown.with_lower = replace(page, page=replace(page.page, lower=tuple(lower)))
        return shown.with_lower

    def _offer(self, page_id: str) -> ManifestLine:
        session = self._log.session
        page = session.pages[page_id]
        line = offered_line(page, session.tier(page), session.config.layout, self.tokenizer.count)
        self._offered[page_id] = line
        return line


def _same(before: PageState, now: PageState) -> bool:
    """Whether prompts show two states of a page alike."""
    return (
        before.current_version == now.current_version
        and before.pinned is now.pinned
        and before.importance == now.importance
        and before.hint == now.hint
        and len(before.current.representations) == len(now.current.representations)
    )


class RememberingTokenizer:
    """A tokenizer that counts a short text once: a prompt asks for the same ones at every call."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._remembered = lru_cache(maxsize=REMEMBERED_TEXTS_MAX)(tokenizer.count)

    @property
    def name(self) -> str:
        """The name of the tokenizer that counts."""
        return self._tokenizer.name

    def count(self, text: str) -> int:
        return self._remembered(text) if len(text) <= REMEMBERED_CHARS_MAX else self._tokenizer.count(text)


@lru_cache(maxsize=16)
def _remembering(model: ModelTokens) -> RememberingTokenizer:
    """Sessions in one process share what was counted."""
    return RememberingTokenizer(model.tokenizer)
