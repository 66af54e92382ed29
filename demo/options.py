"""Options of `make run`, from environment variables, besides those of the launcher.

CONVERSATION   a file to replay; the one that ships with the demonstration when empty
PAGING         hybrid (the default), model or runtime: who brings old pages into a prompt
ONCE           1: end when the replay has ended
REPORT         a file to write the closing table to, as JSON
MODEL_URL, MODEL, MODEL_KEY   an OpenAI-compatible endpoint; a scripted model when empty
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from demo.model.port import Model
from demo.replay.run import PAGING, ModelNotNamed, model_from_environment
from pagekeeper.local.options import StackOptions, WrongOption, read_stack_options
from pagekeeper.v1.session_pb2 import DemandPaging

_YES_OR_NO: Final = {"1": True, "true": True, "yes": True, "": False, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Options:
    """The replay to run, and the stack for it."""

    stack: StackOptions
    demand_paging: DemandPaging.ValueType
    conversation: Path | None
    once: bool
    report: Path | None
    model: Model


def read_options(environment: Mapping[str, str]) -> Options:
    """Raises WrongOption."""
    return Options(
        stack=read_stack_options(environment),
        demand_paging=_paging(environment.get("PAGING", "")),
        conversation=_conversation(environment.get("CONVERSATION", "")),
        once=_once(environment.get("ONCE", "")),
        report=_report(environment.get("REPORT", "")),
        model=_model(environment),
    )


def _paging(value: str) -> DemandPaging.ValueType:
    if value and value not in PAGING:
        raise WrongOption(f"PAGING is {value!r}: it is {', '.join(PAGING)}")
    return PAGING[value or "hybrid"]


def _once(value: str) -> bool:
    if value.lower() not in _YES_OR_NO:
        raise WrongOption(f"ONCE is {value!r}: it is 1 to end after the replay, or empty")
    return _YES_OR_NO[value.lower()]


def _conversation(value: str) -> Path | None:
    path = Path(value)
    if value and not path.is_file():
        raise WrongOption(f"CONVERSATION is {value!r}: there is no such file")
    return path if value else None


def _report(value: str) -> Path | None:
    path = Path(value)
    if value and (path.is_dir() or not path.parent.is_dir()):
        raise WrongOption(f"REPORT is {value!r}: it is a file to write, in a directory that exists")
    return path if value else None


def _model(environment: Mapping[str, str]) -> Model:
    url = environment.get("MODEL_URL", "")
    if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
        raise WrongOption(f"MODEL_URL is {url!r}: it is an address such as http://127.0.0.1:8080/v1")
    try:
        return model_from_environment(environment)
    except ModelNotNamed as unnamed:
        raise WrongOption(str(unnamed)) from None
