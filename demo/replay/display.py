"""The display of a replay: a line a turn, recalled decisions with their citations, the closing table.

On a terminal a progress bar stays below the lines, and lines are cut to its width by cells, so wide scripts do not
break them. Anywhere else (a pipe, a file) the same lines come whole and plain.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from demo.corpus.types import Conversation
from demo.replay.records import FaultSeen, RecallSeen, TurnSeen
from demo.replay.report import Report
from pagekeeper.app.printing import Printer
from pagekeeper.core.escape import visible

_BAR_CELLS: Final = 16
_SAID_CELLS: Final = 34
_REPLY_CHARS_MAX: Final = 400
_SAID_CELLS_MIN: Final = 8

_REASONS: Final = {
    "user_requested_recall": "recall",
    "resolve_reference": "reference",
    "tool_prerequisite": "prerequisite",
}
_CHECK_NAMES: Final = {
    "prompt_within_budget": "no prompt over budget",
    "decisions_recalled": "every decision recalled",
    "faults_on_recall_turns": "few faults on recall turns",
    "thrash_index": "no thrashing",
}


class Display:
    """Shows one replay after the other on `console`."""

    def __init__(self, console: Printer) -> None:
        self._console = console
        self._ascii = not console.encoding.lower().startswith("utf")

    @contextmanager
    def progress(self, title: str, turns: int) -> Iterator["TurnLines"]:
        """The lines of a replay of `turns` turns; on a terminal with a bar below them."""
        if not self._console.is_terminal:
            yield TurnLines(self._console, None, ascii_only=self._ascii)
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        with bar:
            yield TurnLines(self._console, (bar, bar.add_task(title, total=turns)), ascii_only=self._ascii)

    def heading(self, conversation: Conversation, model: str, budget_tokens: int) -> None:
        """Show the heading of a replay."""
        questions = sum(turn.recall is not None for turn in conversation.turns)
        text = Text.assemble(
            ("Replaying ", "bold"),
            (_shown(conversation.name), "bold cyan"),
            f": {len(conversation.turns)} turns, {questions} recall questions, ",
            f"{budget_tokens:,} tokens for the prompt, {model}",
        )
        self._print(text)

    def broken_characters(self, conversation: Conversation) -> None:
        """Say in how many messages U+FFFD stands for what is no character, if in any."""
        count = sum("\N{REPLACEMENT CHARACTER}" in message.text for message in conversation.messages())
        if count:
            text = f"{conversation.name}: U+FFFD stands for what is no character in {count:,} messages"
            self._print(Text(_shown(text), style="dim"))

    def problem(self, text: str) -> None:
        """Why there is nothing to show."""
        self._print(Text(text, style="red"))

    def closing(self, report: Report) -> None:
        """The closing table, what a call took, and the checks."""
        self._console.print(self._figures(report))
        self._console.print(self._calls(report))
        for check in report.checks:
            mark = _mark(check.passed, ascii_only=self._ascii)
            self._print(Text.assemble("  ", mark, " ", f"{_CHECK_NAMES[check.name]}: {check.detail}"))
        self._print(Text(""))

    def _print(self, text: Text) -> None:
        self._console.print(_safe(text, ascii_only=self._ascii), soft_wrap=True, highlight=False)

    def _figures(self, report: Report) -> Table:
        table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False, safe_box=self._ascii)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim")
        saved = 1 - report.tokens_sent / report.tokens_without_paging if report.tokens_without_paging else 0.0
        faults, recall = report.faults, report.recall
        rows = (
            ("turns", f"{report.turns:,}", f"{report.pages:,} pages, session {report.session_id}"),
            ("tokens seen", f"{report.tokens_seen:,}", "all messages together"),
            (
                "tokens sent",
                f"{report.tokens_sent:,}",
                f"{saved:.0%} less than {report.tokens_without_paging:,} without paging",
            ),
            ("largest prompt", f"{report.largest_prompt_tokens:,}", f"of {report.budget_tokens:,} allowed"),
            ("faults", f"{faults.total:,}", f"{_counts(faults.by_reason)}{_from(faults.by_source_tier)}"),
            ("recalled", f"{report.recalled:,}", "pages brought in for the user's words"),
            ("searches", f"{report.searches:,}", _refused(report.refused_calls)),
            ("evictions", f"{report.evictions:,}", "pages that left the prompt"),
            ("compressions", f"{report.compressions:,}", "pages shortened to make room"),
            ("recall", f"{recall.correct}/{recall.questions}", _recall_note(report)),
            ("thrash index", f"{report.thrash_index:.2f}", "share of faults that undid a recent eviction"),
        )
        for row in rows:
            table.add_row(*(_plain(cell, ascii_only=self._ascii) for cell in row))
        return table

    def _calls(self, report: Report) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, safe_box=self._ascii)
        table.add_column("call")
        for heading in ("count", "p50 ms", "p95 ms"):
            table.add_column(heading, justify="right")
        if report.repeated_calls:
            table.caption = f"{report.repeated_calls} calls were sent again because a service was away"
        for name, figures in report.calls.items():
            table.add_row(name, f"{figures.count:,}", f"{figures.p50_ms:.1f}", f"{figures.p95_ms:.1f}")
        return table


class TurnLines:
    """Prints turns as they end."""

    def __init__(self, console: Printer, bar: tuple[Progress, TaskID] | None, *, ascii_only: bool) -> None:
        self._console = console
        self._bar = bar
        self._ascii = ascii_only

    def turn(self, turn: TurnSeen, budget_tokens: int) -> None:
        """One line for the turn, and what was recalled in it."""
        line = _safe(_turn_line(turn, budget_tokens, self._console), ascii_only=self._ascii)
        if self._bar is None:
            self._console.print(line, soft_wrap=True, highlight=False)
        else:
            self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
        if turn.recall is not None:
            self._recall(turn.recall)
        if self._bar is not None:
            progress, task = self._bar
            progress.advance(task)

    def _recall(self, recall: RecallSeen) -> None:
        text = _safe(_recall_text(recall, ascii_only=self._ascii), ascii_only=self._ascii)
        if self._bar is None:
            self._console.print(Text("      ").append_text(text), soft_wrap=True, highlight=False)
        else:
            self._console.print(Padding(text, (0, 1, 0, 6)), highlight=False)


def _turn_line(turn: TurnSeen, budget_tokens: int, console: Printer) -> Text:
    """On a terminal, the user's words get the room that the events leave."""
    filled = min(_BAR_CELLS, round(turn.l0_tokens / budget_tokens * _BAR_CELLS))
    full, empty = ("█", "░") if console.encoding.lower().startswith("utf") else ("#", ".")
    line = Text.assemble(
        f"{turn.number:>5} ",
        (full * filled, "cyan"),
        (empty * (_BAR_CELLS - filled), "dim"),
        f" {turn.l0_tokens:>6,}/{budget_tokens:,}",
    )
    events = Text()
    for event, style in _events(turn):
        events.append("  ").append(event, style=style)
    room = console.width - line.cell_len - events.cell_len - 3 if console.is_terminal else _SAID_CELLS
    if room >= _SAID_CELLS_MIN:
        said = Text(_shown(turn.said), style="dim")
        said.truncate(min(room, _SAID_CELLS), overflow="ellipsis", pad=True)
        line.append("  ").append_text(said)
    return line.append_text(events)


def _events(turn: TurnSeen) -> Iterator[tuple[str, str]]:
    alike: dict[str, list[str]] = {}
    for fault in turn.faults:
        alike.setdefault(_cause(fault), []).append(fault.page_id)
    for cause, page_ids in alike.items():
        yield f"fault {', '.join(page_ids)} ({cause})", "yellow"
    if turn.recalled:
        yield f"recalled {turn.recalled}", "green"
    for error in turn.refused_calls:
        yield f"refused: {error}", "red"
    if turn.evicted:
        yield f"evicted {turn.evicted}", "magenta"
    if turn.repeated:
        yield f"repeated {turn.repeated} calls", "red"
    if turn.compressed:
        yield f"compressed {turn.compressed}", "blue"


def _cause(fault: FaultSeen) -> str:
    level = f", level {fault.level}" if fault.level else ""
    return f"{_REASONS.get(fault.reason, fault.reason)}, {fault.source_tier}{level}"


def _recall_text(recall: RecallSeen, *, ascii_only: bool) -> Text:
    reply = _shown(recall.reply)
    said = reply if len(reply) <= _REPLY_CHARS_MAX else f"{reply[:_REPLY_CHARS_MAX]}…"
    citations = "" if "[ref:" in said else "".join(f" [ref: {page_id}]" for page_id in recall.cited)
    text = Text.assemble(
        _mark(recall.correct, ascii_only=ascii_only), " ", (recall.topic, "bold"), f": {said}{citations}"
    )
    if not recall.correct:
        expected = f"{', '.join(recall.expected)} " if recall.expected else ""
        text.append(f" (expected {expected}from {', '.join(recall.evidence)})", style="red")
    return text


def _mark(passed: bool, *, ascii_only: bool) -> tuple[str, str]:  # noqa: FBT001 - it is the value that is shown
    if passed:
        return ("ok" if ascii_only else "✔", "green")
    return ("FAILED" if ascii_only else "✘", "bold red")


def _recall_note(report: Report) -> str:
    recall = report.recall
    if not recall.questions:
        return "no question has a known answer"
    share = f"{recall.evidence_share:.0%} of the evidence shown or cited"
    return f"{len(recall.topics)} topics, {share}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()) or "none"


def _from(tiers: dict[str, int]) -> str:
    return "; " + ", ".join(f"{count} from {tier}" for tier, count in sorted(tiers.items())) if tiers else ""


def _refused(refused: dict[str, int]) -> str:
    return f"refused calls: {_counts(refused)}" if refused else ""


def _shown(text: str) -> str:
    """On one line, with an escape for each character that cannot be seen."""
    return visible(" ".join(text.split()))


def _safe(text: Text, *, ascii_only: bool) -> Text:
    """For a terminal that knows ASCII alone, with marks for the rest; else as it is."""
    if not ascii_only:
        return text
    return Text(_plain(text.plain, ascii_only=True))


def _plain(text: str, *, ascii_only: bool) -> str:
    return text.encode("ascii", "replace").decode() if ascii_only else text
