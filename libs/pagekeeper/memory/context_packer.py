"""The pages of a context as the lines of VM:CONTEXT, within a budget.

Lines are the core's, so content is data in them whatever it says. A page is shown whole, with the rest of the room
going to the beginning of the first page that found none; a line that was cut says how much is missing, and every page
is accounted for as included or omitted.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import AliasChoices, ConfigDict, Field, NonNegativeInt

from pagekeeper.core import packing
from pagekeeper.core.packing import ContextPage, PackedLine
from pagekeeper.core.prompt import CONTEXT_CLOSES, CONTEXT_OPENS
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import CompressionLevel, FormattedPage, MemoryPage
from pagekeeper.memory.models.page import MEDIA
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.page_view import content_text, line_of
from pagekeeper.memory.tokens import estimated_tokens

__all__ = ["ContextPacker", "ContextPackerConfig", "PackedContext"]

CUT_TOKENS_MIN: Final = 50
"""Less room than this is not worth the beginning of a page."""


class ContextPackerConfig(StrictModel):
    """How lines look. `max_line_length` cuts a page's text there, in characters; 0 leaves it whole."""

    max_line_length: int = Field(default=0, ge=0, validation_alias=AliasChoices("max_line_length", "max_text_length"))
    include_page_ids: bool = True
    quote_text: bool = True
    max_tokens: int | None = Field(default=None, ge=0)
    """What pages may take when `pack` is given no budget."""


class PackedContext(StrictModel):
    """What a prompt shows. `tokens_est` counts the lines of `content` with their line breaks."""

    model_config = ConfigDict(frozen=True)

    content: str = Field(validation_alias=AliasChoices("content", "vm_context"))
    tokens_est: int = Field(default=0, validation_alias=AliasChoices("tokens_est", "tokens_used"))
    pages_included: list[str] = Field(default_factory=list, validation_alias=AliasChoices("pages_included", "page_ids"))
    pages_truncated: list[str] = Field(default_factory=list)
    pages_omitted: list[str] = Field(default_factory=list)
    vm_manifest_json: str = ""
    """The manifest that goes with it, where both are kept together."""

    def __str__(self) -> str:
        return self.content

    @property
    def vm_context(self) -> str:
        return self.content

    @property
    def page_ids(self) -> list[str]:
        return self.pages_included

    @property
    def tokens_used(self) -> int:
        return self.tokens_est


@checked
class ContextPacker:
    """`count` says how many tokens a text has; a tokenizer's makes every figure exact, four characters is a guess."""

    def __init__(
        self, config: ContextPackerConfig | None = None, *, count: Callable[[str], int] = estimated_tokens
    ) -> None:
        self.config = ContextPackerConfig() if config is None else config
        self._count = count

    def format_page(self, page: MemoryPage) -> FormattedPage:
        """The page's line, and what it takes with its line break; empty when its content is not at hand."""
        return self._format_page(page)

    def pack(
        self,
        pages: Sequence[MemoryPage],
        token_budget: NonNegativeInt | None = None,
        eviction_order: Sequence[str] = (),
    ) -> PackedContext:
        """`pages` in their order, each once, within `token_budget`.

        When not all fit, the first are served first; with `eviction_order`, the pages that it names last. Pinned pages
        are served before all others and never omitted.

        Raises BudgetTooSmall when the pinned pages alone exceed the budget.
        """
        pages = list({page.page_id: page for page in pages}.values())
        lines = {page.page_id: line for page in pages if (line := self._line(page)).text}
        budget_tokens = self.config.max_tokens if token_budget is None else token_budget
        if budget_tokens is None:
            budget_tokens = sum(line.tokens for line in lines.values())
        order = list(eviction_order) or list(reversed(lines))
        known = [page for page in pages if page.page_id in lines]
        fitted = packing.pack(
            [ContextPage(lines[page.page_id], mandatory=page.pinned) for page in known],
            budget_tokens=budget_tokens,
            eviction_order=order,
        )
        shown = {line.page_id: line for line in fitted.included}
        cut = self._beginning(
            [page for page in known if page.page_id not in shown], order, budget_tokens - fitted.tokens
        )
        if cut is not None:
            shown[cut.page_id] = cut
        return self._packed(pages, shown, cut)

    def pack_with_wrapper(
        self,
        pages: Sequence[MemoryPage],
        token_budget: NonNegativeInt | None = None,
        eviction_order: Sequence[str] = (),
    ) -> PackedContext:
        """`pack` between the tags of VM:CONTEXT; the tags count, and come on top of the budget."""
        packed = self.pack(pages, token_budget, eviction_order)
        lines = f"{packed.content}\n" if packed.content else ""
        tokens = self._count(CONTEXT_OPENS) + packed.tokens_est + self._count(CONTEXT_CLOSES)
        return packed.model_copy(update={"content": f"{CONTEXT_OPENS}{lines}{CONTEXT_CLOSES}", "tokens_est": tokens})

    def _packed(
        self, pages: Sequence[MemoryPage], shown: dict[str, PackedLine], cut: PackedLine | None
    ) -> PackedContext:
        included = [shown[page.page_id] for page in pages if page.page_id in shown]
        longest = self.config.max_line_length
        return PackedContext(
            content="".join([line.text for line in included]).removesuffix("\n"),
            tokens_est=sum(line.tokens for line in included),
            pages_included=[line.page_id for line in included],
            pages_truncated=[
                page.page_id
                for page in pages
                if page.page_id in shown and (shown[page.page_id] is cut or 0 < longest < len(content_text(page) or ""))
            ],
            pages_omitted=[page.page_id for page in pages if page.page_id not in shown],
        )

    def _line(self, page: MemoryPage, max_tokens: int | None = None) -> PackedLine:
        formatted = self._format_page(page, max_tokens)
        text = f"{formatted.content}\n" if formatted.content else ""
        return PackedLine(page.page_id, page.compression_level, text, formatted.tokens_est)

    def _format_page(self, page: MemoryPage, max_tokens: int | None = None) -> FormattedPage:
        """`format_page`; a text that takes more than `max_tokens` is cut to the longest beginning that fits.

        Empty when none does.
        """
        text = line_of(page, self.config.max_line_length or None)
        whole = FormattedPage(content="") if text is None else self._formatted(text)
        if max_tokens is None or whole.tokens_est <= max_tokens or not _can_be_cut(page):
            return whole
        fitting = FormattedPage(content="")
        shortest, longest = 1, min(len(content_text(page) or ""), self.config.max_line_length or sys.maxsize)
        while shortest < longest:
            chars = (shortest + longest) // 2
            beginning = self._formatted(line_of(page, chars) or "")
            if beginning.tokens_est <= max_tokens:
                fitting, shortest = beginning, chars + 1
            else:
                longest = chars
        return fitting

    def _formatted(self, line: str) -> FormattedPage:
        styled = self._styled(line)
        return FormattedPage(content=styled.removesuffix("\n"), tokens_est=self._count(styled))

    def _styled(self, line: str) -> str:
        """The line without what the configuration leaves out; what stands in quotes stays escaped without them."""
        header, _, shown = line.rstrip("\n").partition("): ")
        prefix, _, words = header.partition(" (")
        if not self.config.include_page_ids:
            words = words.partition(" ")[2]
        if not self.config.quote_text and shown.startswith('"') and shown.endswith('"'):
            shown = shown[1:-1]
        return f"{prefix} ({words}): {shown}\n" if words else f"{prefix}: {shown}\n"

    def _beginning(
        self, omitted: Sequence[MemoryPage], eviction_order: Sequence[str], room_tokens: int
    ) -> PackedLine | None:
        """As much as fits of the text that would have been served next."""
        claims = {page_id: claim for claim, page_id in enumerate(eviction_order)}
        texts = [page for page in omitted if _can_be_cut(page)]
        if room_tokens < CUT_TOKENS_MIN or not texts:
            return None
        line = self._line(max(texts, key=lambda page: claims.get(page.page_id, len(claims))), room_tokens)
        return line if line.text else None


def _can_be_cut(page: MemoryPage) -> bool:
    return page.modality not in MEDIA and page.compression_level is CompressionLevel.FULL
