"""`pagekeeper replay`: a conversation through a stack that runs already."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from demo.replay import run as replaying
from pagekeeper.app.cli import asynchronous
from pagekeeper.app.printing import Printer
from pagekeeper.app.target import find_target
from pagekeeper.runtime.errors import CannotStart


@click.command()
@click.argument("conversation", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the closing table as JSON.")
@click.option("--all", "every_conversation", is_flag=True, help="Every conversation of the file, not the first alone.")
@click.option("--budget", type=click.IntRange(2_000, 1_000_000), help="Tokens of the model's window.")
@click.option(
    "--paging",
    type=click.Choice(["model", "runtime", "hybrid"]),
    default="hybrid",
    help="Who brings old pages into a prompt: the model by its tools, the runtime by the user's words, or both.",
)
@asynchronous
async def replay(
    conversation: Path | None, report: Path | None, *, every_conversation: bool, budget: int | None, paging: str
) -> None:
    """Replay a conversation through the running platform: the one that ships with it, or one of yours.

    A conversation is an array or JSONL of OpenAI-style messages, or a LoCoMo or BEAM file. The model is scripted unless
    MODEL_URL and MODEL (and MODEL_KEY) name an OpenAI-compatible endpoint.
    """
    target = find_target()
    try:
        model = replaying.model_from_environment()
    except replaying.ModelNotNamed as problem:
        raise CannotStart(str(problem)) from problem
    options = replaying.ReplayOptions(every_conversation=every_conversation, demand_paging=replaying.PAGING[paging])
    if budget is not None:
        options = replace(options, budget_tokens=budget)
    status = await replaying.run_replay(
        endpoint=target.endpoint,
        token=target.token,
        ca=target.ca,
        conversation=conversation,
        model=model,
        console=Printer(),
        report=report,
        options=options,
    )
    if status:
        sys.exit(status)
