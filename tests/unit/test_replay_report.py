"""Closing figures, checks, the JSON file, and what a person sees."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from demo.corpus.types import Conversation
from demo.replay.display import Display
from demo.replay.records import CallSeen, FaultSeen, RecallSeen, TurnSeen
from demo.replay.report import Replayed, report_on, write_json
from pagekeeper.app.printing import Printer

FAULT = FaultSeen("m7", "resolve_reference", "L2", 0, 120, promoted=True)
PRESENT = replace(FAULT, page_id="m8", promoted=False)
RECALL = RecallSeen("price", "Which price?", "“€49” [ref: m7]", ("€49",), ("m7",), ("m7",), ("m7",), correct=True)
PLAIN = TurnSeen(
    number=1,
    said="Hello there",
    seen_tokens=100,
    l0_tokens=4_000,
    prompt_tokens=(5_000,),
    service_tokens=5_000,
    appended=2,
    faults=(),
    recalled=2,
    searches=0,
    refused_calls=(),
    evicted=3,
    compressed=1,
    repeated=0,
    calls=(CallSeen("AppendPages", 1.0), CallSeen("AppendPages", 3.0)),
    recall=None,
)
ASKED = replace(
    PLAIN,
    number=2,
    said="Which price?",
    prompt_tokens=(6_000, 7_000),
    service_tokens=5_990,
    faults=(FAULT, PRESENT),
    searches=1,
    refused_calls=("unknown_tool",),
    recall=RECALL,
)
REPLAYED = Replayed("talk", "replay-1", "scripted model", "gpt-4o", 16_000, 0.25)


def failed(*turns: TurnSeen, replayed: Replayed = REPLAYED) -> list[str]:
    return [check.name for check in report_on(replayed, turns).checks if not check.passed]


def test_figures_add_up() -> None:
    report = report_on(REPLAYED, [PLAIN, ASKED])
    assert (report.turns, report.pages, report.tokens_seen, report.tokens_sent) == (2, 4, 200, 18_000)
    assert report.tokens_without_paging == 100 + 2 * 200
    assert (report.largest_prompt_tokens, report.count_difference_tokens) == (7_000, 10)
    assert (report.faults.total, report.faults.by_reason, report.faults.by_source_tier) == (
        1,
        {"resolve_reference": 1},
        {"L2": 1},
    )
    assert (report.evictions, report.compressions, report.searches, report.refused_calls) == (
        6,
        2,
        1,
        {"unknown_tool": 1},
    )
    assert (report.recall.questions, report.recall.correct, report.recall.evidence_share) == (1, 1, 1.0)
    assert (report.calls["AppendPages"].count, report.calls["AppendPages"].p50_ms) == (4, 1.0)
    assert report.calls["AppendPages"].p95_ms == 3.0
    assert report.passed


@pytest.mark.parametrize(("values", "p50", "p95"), [([5.0], 5, 5), ([1.0, 2.0], 1, 2), (list(range(1, 101)), 50, 95)])
def test_quantiles_are_values_that_were_measured(values: list[float], p50: float, p95: float) -> None:
    turn = replace(PLAIN, calls=tuple(CallSeen("x", float(value)) for value in reversed(values)))
    figures = report_on(REPLAYED, [turn]).calls["x"]
    assert (figures.p50_ms, figures.p95_ms) == (p50, p95)


def test_each_check_fails_for_its_own_reason() -> None:
    assert failed(PLAIN, ASKED) == []
    assert failed(PLAIN, replace(ASKED, prompt_tokens=(100, 16_001))) == ["prompt_within_budget"]
    assert failed(PLAIN, replace(ASKED, recall=replace(RECALL, correct=False))) == ["decisions_recalled"]
    assert failed(PLAIN, replace(ASKED, faults=(FAULT,) * 3)) == ["faults_on_recall_turns"]
    assert failed(PLAIN, ASKED, replayed=replace(REPLAYED, thrash_index=0.5)) == ["thrash_index"]


def test_questions_without_a_fixed_answer_are_reported_and_not_checked() -> None:
    open_question = replace(RECALL, expected=(), evidence=("m1", "m2"), shown=("m1",), cited=(), correct=False)
    report = report_on(REPLAYED, [replace(ASKED, recall=open_question)])
    assert report.recall.evidence_share == 0.5
    assert [check.name for check in report.checks] == ["prompt_within_budget", "faults_on_recall_turns", "thrash_index"]


def test_the_json_file_has_stable_names(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", [report_on(REPLAYED, [PLAIN, ASKED])])
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (one,) = written.pop("conversations")
    assert written == {"format": 1, "passed": True}
    assert sorted(one) == [
        "budget_tokens",
        "calls",
        "checks",
        "compressions",
        "conversation",
        "count_difference_tokens",
        "counted_as",
        "evictions",
        "faults",
        "largest_prompt_tokens",
        "model",
        "pages",
        "passed",
        "recall",
        "recalled",
        "refused_calls",
        "repeated_calls",
        "searches",
        "session_id",
        "thrash_index",
        "tokens_seen",
        "tokens_sent",
        "tokens_without_paging",
        "turns",
    ]
    assert sorted(one["recall"]) == ["answers", "correct", "evidence_share", "questions", "topics"]
    assert sorted(one["faults"]) == ["by_reason", "by_source_tier", "largest_on_a_recall_turn", "total"]
    assert one["calls"]["AppendPages"] == {"count": 4, "p50_ms": 1.0, "p95_ms": 3.0}
    assert set(one["checks"][0]) == {"name", "passed", "detail"}


# What a person sees


def shown(console: Printer, *turns: TurnSeen) -> str:
    display = Display(console)
    display.heading(Conversation("talk", (), ()), "scripted model", 16_000)
    with display.progress("talk", len(turns)) as lines:
        for turn in turns:
            lines.turn(turn, 16_000)
    display.closing(report_on(REPLAYED, turns))
    console.file.seek(0)
    return console.file.read()


def pipe(encoding: str = "utf-8") -> Printer:
    return Printer(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline=""), width=80)


def terminal(width: int) -> Printer:
    return Printer(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


WIDE = replace(PLAIN, number=3, said="Kenjiさんからの連絡です:「昨夜のデータに重複がありました。原因は再送です。」")
HOSTILE = replace(PLAIN, number=4, said="[red]x[/red]\n\n\x1b[2J\u202e\x1b]0;t\x07 evil")


def test_a_pipe_gets_one_plain_line_a_turn() -> None:
    text = shown(pipe(), PLAIN, WIDE, HOSTILE, ASKED)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\u202e" not in text
    lines = text.splitlines()
    assert lines[0].startswith("Replaying talk: 0 turns")
    assert [line.split()[0] for line in lines[1:5]] == ["1", "3", "4", "2"]
    assert r"[red]x[/red] \e[2J\u{202E}" in lines[3]
    assert "fault m7, m8 (reference, L2)  recalled 2  refused: unknown_tool  evicted 3  compressed 1" in lines[4]
    assert lines[5] == "      ✔ price: “€49” [ref: m7]"
    assert "████░░░░░░░░░░░░  4,000/16,000  Hello there" in lines[1]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    raw = shown(terminal(width), PLAIN, WIDE, HOSTILE, ASKED)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", raw)
    turns = [line for line in text.splitlines() if "16,000" in line and "░" in line]
    assert len(turns) == 4
    assert max(cell_len(line.rstrip()) for line in turns) <= width
    assert "\x1b[2J" not in raw
    assert "\x1b]0" not in raw


def test_an_ascii_terminal_gets_ascii() -> None:
    text = shown(pipe("ascii"), PLAIN, WIDE, ASKED)
    assert text.isascii()
    assert "####............" in text
    assert "ok price:" in text


def test_a_wrong_answer_says_what_was_expected_and_where_it_is() -> None:
    wrong = replace(RECALL, reply="No idea. " * 100, cited=("m3",), correct=False)
    text = shown(pipe(), replace(ASKED, recall=wrong))
    line = next(line for line in text.splitlines() if "✘ price" in line)
    assert "… [ref: m3] (expected €49 from m7)" in line
    assert "✘ every decision recalled: 0 of 1 with the right answer and citation; missed price (turn 2)" in text


def test_the_closing_table_has_every_figure() -> None:
    text = shown(pipe(), PLAIN, ASKED)
    for name in (
        *("turns", "tokens seen", "tokens sent", "largest prompt", "faults", "evictions", "compressions"),
        *("recall", "thrash index", "p50 ms", "p95 ms", "AppendPages"),
    ):
        assert name in text
