"""The pages of a context as the lines of VM:CONTEXT, within a budget: a view over `pagekeeper.core.packing`.

Invariant: a line is the core's, so content is data in it whatever it says; every page is included or omitted, and
`PackedContext` says which.
"""

from collections.abc import Callable, Sequence

from pydantic import ConfigDict, Field, NonNegativeInt

from pagekeeper.core import packing
from pagekeeper.core.packing import ContextPage, PackedLine
from pagekeeper.core.prompt import CONTEXT_CLOSES, CONTEXT_OPENS
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import FormattedPage, MemoryPage
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.page_view import content_text, line_of
from pagekeeper.memory.tokens import estimated_tokens

__all__ = ["ContextPacker", "ContextPackerConfig", "PackedContext"]


class ContextPackerConfig(StrictModel):
    """How lines look. `max_line_length` cuts a page's text there, in characters; 0 leaves it whole."""

    max_line_length: int = Field(default=0, ge=0)
    include_page_ids: bool = True
    quote_text: bool = True
    max_tokens: int | None = Field(default=None, ge=0)
    """What pages may take when `pack` is given no budget."""


class PackedContext(StrictModel):
    """The packed context of a prompt. `tokens_est` counts the lines of `content` with their line breaks."""

    model_config = ConfigDict(frozen=True)

    content: str
    tokens_est: int = 0
    pages_included: list[str] = Field(default_factory=list)
    pages_truncated: list[str] = Field(default_factory=list)
    pages_omitted: list[str] = Field(default_factory=list)

    def __str__(self) -> str:
        return self.content


@checked
class ContextPacker:
    """Pages as the lines of VM:CONTEXT, chosen by `core.packing` within a budget.

    `count` says how many tokens a text has; the default takes four characters for a token.
    """

    def __init__(
        self, config: ContextPackerConfig | None = None, *, count: Callable[[str], int] = estimated_tokens
    ) -> None:
        self.config = ContextPackerConfig() if config is None else config
        self._count = count

    def __repr__(self) -> str:
        return f"ContextPacker({self.config!r})"

    def format_page(self, page: MemoryPage) -> FormattedPage:
        """The page's line and its tokens, the line break included; empty when the page's content is not at hand."""
        line = self._line(page)
        return FormattedPage(content=line.text.removesuffix("\n"), tokens_est=line.tokens)

    def pack(
        self,
        pages: Sequence[MemoryPage],
        token_budget: NonNegativeInt | None = None,
    ) -> PackedContext:
        """`pages` in their order, each once, within `token_budget` or the configuration's `max_tokens`.

        A page is shown whole or omitted. When not all fit, the first are served first. Pinned pages are served before
        all others and never omitted.

        Raises BudgetTooSmall when the pinned pages alone exceed the budget.
        """
        lines = {page.page_id: self._line(page) for page in pages}
        pinned = {page.page_id for page in pages if page.pinned}
        shown = {page_id: line for page_id, line in lines.items() if line.text}
        budget_tokens = self.config.max_tokens if token_budget is None else token_budget
        fitted = packing.pack(
            [ContextPage(line, mandatory=page_id in pinned) for page_id, line in shown.items()],
            budget_tokens=sum(line.tokens for line in shown.values()) if budget_tokens is None else budget_tokens,
            eviction_order=list(reversed(shown)),
        )
        included = [line.page_id for line in fitted.included]
        chars_max = self.config.max_line_length
        cut = {page.page_id for page in pages if 0 < chars_max < len(content_text(page) or "")}
        return PackedContext(
            content=fitted.content.removesuffix("\n"),
            tokens_est=fitted.tokens,
            pages_included=included,
            pages_truncated=[page_id for page_id in included if page_id in cut],
            pages_omitted=[page_id for page_id in lines if page_id not in set(included)],
        )

    def pack_with_wrapper(
        self,
        pages: Sequence[MemoryPage],
        token_budget: NonNegativeInt | None = None,
    ) -> PackedContext:
        """`pack` between the tags of VM:CONTEXT; the tags count, and come on top of the budget."""
        packed = self.pack(pages, token_budget)
        lines = f"{packed.content}\n" if packed.content else ""
        tokens = self._count(CONTEXT_OPENS) + packed.tokens_est + self._count(CONTEXT_CLOSES)
        return packed.model_copy(update={"content": f"{CONTEXT_OPENS}{lines}{CONTEXT_CLOSES}", "tokens_est": tokens})

    def _line(self, page: MemoryPage) -> PackedLine:
        text = self._styled(line_of(page, self.config.max_line_length or None) or "")
        return PackedLine(page.page_id, page.compression_level, text, self._count(text))

    def _styled(self, line: str) -> str:
        """The line without what the configuration leaves out; what stands in quotes stays escaped without them."""
        if not line or (self.config.include_page_ids and self.config.quote_text):
            return line
        header, _, shown = line.rstrip("\n").partition("): ")
        prefix, _, words = header.partition(" (")
        if not self.config.include_page_ids:
            words = words.partition(" ")[2]
        if not self.config.quote_text and shown.startswith('"') and shown.endswith('"'):
            shown = shown[1:-1]
        return f"{prefix} ({words}): {shown}\n" if words else f"{prefix}: {shown}\n"
