"""Where a running platform is, for commands that talk to one."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pagekeeper.runtime.errors import CannotStart

STACK_FILE: Final = Path(".pagekeeper") / "stack.json"
"""What the local launcher leaves while it runs: `endpoint`, `token` and the `environment` of its services."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running platform."""

    endpoint: str
    token: str
    ca: Path | None
    """The file of the authorities whose certificates are believed; None without TLS."""


def find_target() -> Target:
    """Raises CannotStart when nothing says where the platform is."""
    endpoint, token = os.environ.get("PK_ENDPOINT"), os.environ.get("PK_TOKEN")
    if endpoint and token:
        return Target(endpoint, token, _path(os.environ.get("PK_TLS_CA")))
    if STACK_FILE.exists():
        stack = json.loads(STACK_FILE.read_text())
        return Target(stack["endpoint"], stack["token"], _path(stack["environment"].get("PK_TLS_CA")))
    raise CannotStart(
        f"no platform is known: set PK_ENDPOINT and PK_TOKEN, or start one here with `make run` ({STACK_FILE})"
    )


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None
