"""Options of the launcher, from environment variables.

TOPOLOGY   five (the default) or one: how many processes our services run in
DATA_DIR   a directory to keep everything in; one that is removed at the end when empty
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagekeeper.local.stack import Topology


class WrongOption(Exception):
    """A variable has a value that cannot be meant. One line: which, and what would be right."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Which stack to start. `directory` None is a temporary one."""

    topology: Topology
    directory: Path | None


def read_stack_options(environment: Mapping[str, str]) -> StackOptions:
    """Raises WrongOption."""
    return StackOptions(_topology(environment.get("TOPOLOGY", "")), _directory(environment.get("DATA_DIR", "")))


def _topology(value: str) -> Topology:
    try:
        return Topology(value or Topology.FIVE)
    except ValueError:
        raise WrongOption(f"TOPOLOGY is {value!r}: it is {' or '.join(Topology)}") from None


def _directory(value: str) -> Path | None:
    path = Path(value)
    if value and path.exists() and not path.is_dir():
        raise WrongOption(f"DATA_DIR is {value!r}: that is not a directory")
    return path if value else None
