r"""Printing for people: no character of a page, a hint, a label, an id or a name reaches a terminal as a command.

Whoever prints for the command line prints by a `Printer`, or by `say` where lines are to come as they are. Both write
what `visible` makes of a text: `\e[31m` is seen and colours nothing. Markup in brackets is text as well; styles are
given by `rich.text.Text`. Where the output is no terminal, no style is written.
"""

from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pagekeeper.core.escape import visible


class Printer(Console):
    """A console that shows control characters. A table's columns fit what is shown."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the options of `Console`
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - the options of `Console.render_str`
        """Return `text` as it is shown."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of `renderable`; the text of each is shown, of a `Text` of others' words too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def say(text: str, *, err: bool = False) -> None:
    """Print lines as they are, without wrapping."""
    click.echo(visible(text), err=err)
