"""Time, as a port: code that needs time is given a `Clock`, so that a test can set the time."""

import time
from typing import Protocol


class Clock(Protocol):
    """The port of time.

    `now_ms` is for people and for tokens: Unix time in milliseconds, which may jump. `monotonic` is for deadlines and
    durations: seconds from an arbitrary start, comparable inside one process only, never going back.
    """

    def now_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251 - this is the port

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - this is the port
