"""What a platform of some size needs, by the figures of `make bench-scale`.

    cores     = turns a second x CPU of a turn / UTILISATION
    memory    = (memory at the last value - at the first) / (last - first) x what is warm
    disk      = the same of files, x what there is

A slope is taken between the first and the last measured value of a parameter: what the processes take from the start
drops out. `docs/capacity.md` shows the rows; `python -m bench.claims` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TENANTS: Final = 10_000
SESSIONS: Final = 1_000_000
PAGES: Final = 100_000_000
ACTIVE_SHARE: Final = 0.01
"""Of the sessions, those whose users are there now; each takes a turn a minute."""
TURN_SECONDS: Final = 60.0
UTILISATION: Final = 0.6
"""Of a core: beyond that, queues grow."""
LOG_BYTES_DEFAULT: Final = 4 * 2 * 1024**3
"""Four partitions of 2 GiB, unless PK_LOG_PARTITIONS and PK_LOG_BYTES_MAX say otherwise."""
SERVICES_WITH_SESSIONS: Final = ("gateway", "page-table", "working-set")
GIB: Final = 1024**3

Results = Mapping[str, Mapping[str, Any]]
"""The parts by name, each with `rows` and `sizes`."""


@dataclass(frozen=True, slots=True)
class Need:
    """A line of the table: what is needed, how much of it, and how that is computed."""

    what: str
    amount: str
    how: str


def needs(results: Results) -> list[Need]:
    """The table, without the lines whose figures were not measured."""
    active = SESSIONS * ACTIVE_SHARE
    turns_a_second = active / TURN_SECONDS
    found = []
    cpu_us = _cpu_us(results, "turn", "turns")
    if cpu_us is not None:
        cores = turns_a_second * cpu_us / 1e6 / UTILISATION
        how = f"{turns_a_second:,.0f} turns a second x {cpu_us / 1e3:,.0f} ms of CPU / {UTILISATION:.0%}"
        found.append(Need("cores, for all services and NATS", f"{cores:,.0f}", how))
    for service in SERVICES_WITH_SESSIONS:
        slope = _slope(results, f"memory of {service}", "sessions")
        if slope is not None:
            how = f"{active:,.0f} warm sessions x {_bytes(slope)}"
            found.append(Need(f"memory, {service}", _bytes(slope * active), how))
    for what, name, parameter, count in (
        ("memory, each NATS server", "memory of nats", "sessions", SESSIONS),
        ("disk, each NATS server", "disk of nats", "sessions", SESSIONS),
        ("disk, object store, before its own copies", "disk of the object store", "pages", PAGES),
    ):
        slope = _slope(results, name, parameter)
        if slope is not None:
            found.append(Need(what, _bytes(slope * count), f"{count:,} {parameter} x {_bytes(slope)}"))
    slope = _slope(results, "disk of nats", "sessions")
    if slope:
        sessions = LOG_BYTES_DEFAULT / slope
        how = f"{_bytes(LOG_BYTES_DEFAULT)} of log by default / {_bytes(slope)}"
        found.append(Need("sessions until the log is full", f"{sessions:,.0f}", how))
    return found


def rows_of(results: Results) -> list[Mapping[str, Any]]:
    """The rows of all parts, an operation's together."""
    return sorted(_all(results, "rows"), key=lambda row: (row["parameter"], row["name"], row["at"]))


def growth_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row an operation and parameter: its CPU at each value, in ms, and how many times the first the last is."""
    by_line: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_line.setdefault((row["parameter"], row["name"]), []).append(row)
    return [
        [
            name,
            parameter,
            " / ".join(f"{row['at']:,}" for row in line),
            " / ".join(f"{row['cpu_us'] / 1e3:,.1f}" for row in line),
            f"{line[-1]['cpu_us'] / line[0]['cpu_us']:.1f}" if len(line) > 1 and line[0]["cpu_us"] else "",
            " / ".join(f"{row['p50_ms']:,.0f}" if row["p50_ms"] >= 10 else f"{row['p50_ms']:.1f}" for row in line),
        ]
        for (parameter, name), line in by_line.items()
    ]


def _cpu_us(results: Results, name: str, parameter: str) -> float | None:
    """At the last measured value."""
    found = [row for row in rows_of(results) if (row["name"], row["parameter"]) == (name, parameter)]
    return float(found[-1]["cpu_us"]) if found else None


def _slope(results: Results, name: str, parameter: str) -> float | None:
    """Bytes for one more of the parameter; None without two values."""
    found = [size for size in _all(results, "sizes") if (size["name"], size["parameter"]) == (name, parameter)]
    if len(found) < 2:
        return None
    first, last = found[0], found[-1]
    return max(float(last["bytes"] - first["bytes"]) / float(last["at"] - first["at"]), 0.0)


def _all(results: Results, kind: str) -> list[Mapping[str, Any]]:
    return [one for part in results.values() for one in part[kind]]


def _bytes(count: float) -> str:
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} B"
