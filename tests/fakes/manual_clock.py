"""Time that a test sets."""


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
