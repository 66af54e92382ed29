"""The wall clock of an application that holds its memory in its own process.

Times are for people and for recency in seconds; what decides in the core goes by turns.
"""

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the library's one reading of the clock: its pages are dated by default
