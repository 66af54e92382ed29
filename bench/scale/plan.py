"""Where the parameters are measured: all of it, or what fits into a quarter of an hour."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

REPLICAS: Final = (1, 4, 2)
"""Of every service, on a cluster of NATS_SERVERS. The ends first: they say how costs grow when time is short."""
NATS_SERVERS: Final = 3
REPLICATED_SESSIONS: Final = 8
TENANTS: Final = (1, 100, 300, 1_000)
PAGES_OF_A_TENANT: Final = 12
FIRST_TURN: Final = 100
"""From here on a turn costs what it costs in life: a session that has just begun has nothing to evict."""
PAGES_OF_AN_IDLE_SESSION: Final = 8
PREPARED_AT_ONCE: Final = 8
"""Sessions that are filled side by side."""
SHARES: Final = MappingProxyType({"replicas": 0.32, "tenants": 0.2, "pages": 0.26, "turns": 0.1, "sessions": 0.12})
"""Of the time, for each part."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. A point is one row: an operation with a parameter at a value.

    A point takes `point_seconds`, or `operations_max` operations if they take less. All of it takes `seconds`, of which
    each part may use its share of SHARES and what the parts before it have left.
    """

    pages: tuple[int, ...]
    turns: tuple[int, ...]
    soak: bool
    """Whether the turns between the points are carried out one by one; else their pages are appended some at a time."""
    idle_sessions: tuple[int, ...]
    point_seconds: float
    operations_max: int
    seconds: float


FULL: Final = Plan(
    pages=(200, 1_000, 10_000, 100_000),
    turns=(100, 1_000, 3_000, 10_000),
    soak=True,
    idle_sessions=(1, 1_000, 10_000, 100_000),
    point_seconds=20.0,
    operations_max=2_000,
    seconds=6 * 3_600.0,
)
QUICK_SECONDS: Final = 12 * 60.0
"""Of the quarter of an hour that it may take, the rest is for points that have begun."""
QUICK: Final = Plan(
    pages=(200, 1_000, 10_000),
    turns=(100, 1_000, 3_000),
    soak=False,
    idle_sessions=(1, 1_000),
    point_seconds=2.5,
    operations_max=400,
    seconds=QUICK_SECONDS,
)


def cold_sessions(pages: int) -> int:
    """Sessions of a size that are recalled from cold: fewer of the large ones, which take long to fill."""
    return 3 if pages <= 1_000 else 1
