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


class ManualClock:
    """Stands still until told to advance."""

    def __init__(self, now_ms: int = 1_800_000_000_000, monotonic: float = 1_000.0) -> None:
        self._now_ms = now_ms
        self._monotonic = monotonic

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._now_ms += round(seconds * 1_000)
        self._monotonic += seconds
