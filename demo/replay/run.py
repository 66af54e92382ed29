"""One run of `make run` or `pagekeeper replay`: from a file and a running platform to the closing table."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import UnreadableConversation, load_conversations
from demo.corpus.types import Conversation
from demo.model.openai_compatible import OpenAiCompatibleModel
from demo.model.port import Model, ModelFailed
from demo.model.scripted import ScriptedModel
from demo.replay.display import Display
from demo.replay.driver import BUDGET_TOKENS, Replay, ReplayBudget
from demo.replay.recall import RECALL_QUESTIONS_MAX, with_questions_at_most
from demo.replay.report import Replayed, Report, report_on, write_json
from pagekeeper.app.printing import Printer
from pagekeeper.client import Pagekeeper, connect
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.v1 import session_pb2

PASSED: Final = 0
CHECK_FAILED: Final = 1
CANNOT_START: Final = 2
MODEL_FAILED: Final = 3


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of a replay: the conversations of a file, the window, and the demand paging."""

    every_conversation: bool = False
    budget_tokens: int = BUDGET_TOKENS
    demand_paging: session_pb2.DemandPaging.ValueType = session_pb2.DEMAND_PAGING_HYBRID
    questions_max: int = RECALL_QUESTIONS_MAX


PAGING: Final = MappingProxyType(
    {
        "model": session_pb2.DEMAND_PAGING_MODEL,
        "runtime": session_pb2.DEMAND_PAGING_RUNTIME,
        "hybrid": session_pb2.DEMAND_PAGING_HYBRID,
    }
)
"""The settings of demand paging, by the name that a person gives."""


class ModelNotNamed(Exception):
    """MODEL_URL is set and MODEL is not: an endpoint must be told which of its models is meant."""


def model_from_environment(environment: Mapping[str, str] = os.environ) -> Model:
    """The endpoint that MODEL_URL, MODEL and MODEL_KEY name; the scripted model without MODEL_URL.

    Raises ModelNotNamed.
    """
    url, name = environment.get("MODEL_URL", ""), environment.get("MODEL", "")
    if not url:
        return ScriptedModel()
    if not name:
        raise ModelNotNamed("MODEL_URL is set, so MODEL must name one of its models")
    return OpenAiCompatibleModel(url, name, environment.get("MODEL_KEY", ""))


async def run_replay(  # noqa: PLR0913 - by name: where, as whom, what, by which model, shown how
    *,
    endpoint: str,
    token: str,
    ca: Path | None = None,
    conversation: Path | None,
    model: Model,
    console: Printer,
    report: Path | None,
    options: ReplayOptions = ReplayOptions(),
) -> int:
    """Replay a file's first conversation, or each of them, and answer the exit status.

    `conversation` None is the one that ships with Pagekeeper. The status is 0 when every check passed, 1 when one
    failed, 2 when there was nothing to replay, 3 when the model gave up. Raises what the API refuses.
    """
    display = Display(console)
    if report is not None and not report.parent.is_dir():
        display.problem(f"{report}: the directory for the report does not exist")
        return CANNOT_START
    try:
        conversations = load_conversations(conversation or DEFAULT_FILE)
    except UnreadableConversation as error:
        display.problem(str(error))
        return CANNOT_START
    chosen = conversations if options.every_conversation else conversations[:1]
    if len(chosen) < len(conversations):
        console.print(f"{len(conversations)} conversations in the file; replaying the first", style="dim")
    for one in chosen:
        display.broken_characters(one)
    try:
        async with connect(endpoint, token, ca=ca) as pagekeeper:
            reports = [await _replayed(pagekeeper, one, model, display, options) for one in chosen]
    except ModelFailed as error:
        display.problem(str(error))
        return MODEL_FAILED
    finally:
        await model.close()
    if report is not None:
        write_json(report, reports)
    return PASSED if all(one.passed for one in reports) else CHECK_FAILED


async def _replayed(
    pagekeeper: Pagekeeper, whole: Conversation, model: Model, display: Display, options: ReplayOptions
) -> Report:
    conversation = with_questions_at_most(whole, options.questions_max)
    session_id = f"replay-{secrets.token_hex(6)}"
    budget = ReplayBudget(options.budget_tokens, options.demand_paging)
    replay = Replay(pagekeeper.api, pagekeeper.caller, model, session_id, budget, SystemClock().monotonic)
    display.heading(conversation, model.name, options.budget_tokens)
    turns = []
    with display.progress(conversation.name, len(conversation.turns)) as lines:
        async for turn in replay.run(conversation):
            turns.append(turn)
            lines.turn(turn, options.budget_tokens)
    stats = await replay.stats()
    replayed = Replayed(
        conversation=conversation.name,
        session_id=session_id,
        model=model.name,
        counted_as=model.counted_as,
        budget_tokens=options.budget_tokens,
        thrash_index=stats.thrash_index,
    )
    report = report_on(replayed, turns)
    display.closing(report)
    return report
