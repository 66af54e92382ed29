"""Long tool results, each with the call that made it and a reply that reads it.

The reply's figures are computed from the output above it, so that a conversation can be checked against itself.
"""

import json
from collections.abc import Mapping
from random import Random

from demo.corpus.material.draft import ENTITIES, PEOPLE, PILOTS, Draft, Exchange, assistant, user
from demo.corpus.types import Role

_VERBS = ("creates", "rejects", "orders", "expires", "merges", "retries", "locks", "exports", "recovers", "notifies")
_CONDITIONS = (
    "when_offline",
    "with_empty_list",
    "after_midnight",
    "across_zones",
    "with_duplicate_key",
    "under_clock_skew",
    "for_deleted_customer",
    "with_unicode_name",
    "after_restart",
    "at_the_limit",
)
_SERVICES = ("dispatch", "tracking", "billing", "notify", "planner", "gateway", "importer")
_STREETS = ("Ahornweg", "Rue Lepic", "Calle Mayor", "Hafenstraße", "Mill Lane", "Via Roma", "Kirkegata", "Quai Nord")


def suite_run(random: Random) -> Exchange:
    """A test run with a few failures."""
    entity = random.choice(ENTITIES)
    results = []
    for number in range(random.randrange(44, 78)):
        outcome = "FAILED" if random.randrange(18) == 0 else "PASSED"
        name = f"test_{random.choice(ENTITIES)}_{random.choice(_VERBS)}_{random.choice(_CONDITIONS)}"
        results.append(
            (f"tests/{entity}/test_{random.choice(_SERVICES)}.py::{name}[{number}]", outcome, random.randrange(2, 900))
        )
    failed = [name for name, outcome, _ in results if outcome == "FAILED"]
    slowest = max(results, key=lambda result: result[2])
    lines = [f"collected {len(results)} items", ""]
    lines += [f"{name} {outcome} [{milliseconds} ms]" for name, outcome, milliseconds in results]
    lines += [
        "",
        *(
            f"E   AssertionError: {name.split('::')[1]}: expected 1 {entity}, got {i + 2}"
            for i, name in enumerate(failed)
        ),
    ]
    lines += [f"==== {len(failed)} failed, {len(results) - len(failed)} passed, seed {random.randrange(10**6)} ===="]
    reading = (
        f"{len(results) - len(failed)} of {len(results)} pass. "
        + (
            f"First failure: `{failed[0].split('::')[1]}`; the others look like the same cause. "
            if failed
            else "Nothing fails. "
        )
        + f"The slowest is `{slowest[0].split('::')[1]}` with {slowest[2]} ms, worth a look but not today."
    )
    said = random.choice(
        (
            f"Please run the {entity} tests and tell me what you see.",
            f"I touched the {entity} code again. Tests?",
            f"Before I merge: does tests/{entity} pass?",
            f"CI is red on {entity}, can you run it here and read the output for me?",
        )
    )
    return _called(said, "run_tests", {"path": f"tests/{entity}"}, lines, reading)


def query(random: Random) -> Exchange:
    """A table from the reporting replica."""
    entity = random.choice(ENTITIES)
    rows = [
        (
            f"{entity[:2]}-{random.randrange(1000, 10000)}",
            random.choice(PILOTS),
            f"{random.choice(_STREETS)} {random.randrange(1, 140)}",
            random.randrange(1, 60),
            random.randrange(0, 5400),
            random.choice(("planned", "loaded", "on road", "delivered", "returned")),
        )
        for _ in range(random.randrange(30, 62))
    ]
    rows.sort(key=lambda row: row[4], reverse=True)
    lines = [" id      | customer              | address            | parcels | late_seconds | state"]
    lines += ["---------+-----------------------+--------------------+---------+--------------+-----------"]
    lines += [f" {a:<7} | {b:<21} | {c:<18} | {d:>7} | {e:>12} | {f}" for a, b, c, d, e, f in rows]
    lines += [f"({len(rows)} rows, {random.randrange(4, 90)}.{random.randrange(10)} ms)"]
    late = sum(row[4] > 1800 for row in rows)
    reading = (
        f"{late} of {len(rows)} are more than half an hour late. The worst is {rows[0][0]} at {rows[0][2]} "
        f"({rows[0][1]}), {rows[0][4] // 60} minutes behind. "
        f"Together the rows carry {sum(row[3] for row in rows)} parcels."
    )
    said = random.choice(
        (
            f"Which {entity} rows are late today? Query the replica.",
            f"{random.choice(PEOPLE)} needs today's {entity} list, worst delays first.",
            f"How late are we today, by {entity}?",
            f"Pull the {entity} view for the morning call, please.",
        )
    )
    return _called(
        said, "query_view", {"view": f"{entity}_view", "day": "today", "order": "late_seconds desc"}, lines, reading
    )


def logs(random: Random) -> Exchange:
    """A log tail with one stack trace in it."""
    service = random.choice(_SERVICES)
    second, errors, slow = random.randrange(3000), 0, 0
    lines = []
    for _ in range(random.randrange(26, 52)):
        level = random.choice(("INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"))
        took = random.randrange(1, 2600)
        errors += level == "ERROR"
        slow += took > 2000
        lines.append(
            f"05:{second // 60:02d}:{second % 60:02d}.{random.randrange(1000):03d} {level:<5} {service} "
            f"request={random.randrange(16**8):08x} {random.choice(ENTITIES)}_id={random.randrange(10**5)} "
            f"took_ms={took} "
            f'msg="{random.choice(ENTITIES)} {random.choice(_VERBS)} {random.choice(_CONDITIONS).replace("_", " ")}"'
        )
        second += random.randrange(1, 15)
    lines[len(lines) // 2 : len(lines) // 2] = [
        "Traceback (most recent call last):",
        f'  File "/srv/{service}/worker.py", line {random.randrange(40, 400)}, in handle',
        f"    await self.apply(update, {random.choice(ENTITIES)})",
        f'  File "/srv/{service}/apply.py", line {random.randrange(40, 400)}, in apply',
        f"TimeoutError: {random.choice(ENTITIES)} lock not released within {random.randrange(2, 30)} s",
    ]
    reading = (
        f"{errors} errors in this window and {slow} requests above two seconds. The trace in the middle is the "
        "interesting part: a lock that is not released. "
        + random.choice(
            (
                "The warnings before it touch the same rows; I would look at who holds it before adding retries.",
                "Retries would only hide it: find the holder first, the request id is in the line above.",
                "It fits the nightly job's hours. Compare with yesterday at the same time before changing anything.",
            )
        )
    )
    said = random.choice(
        (
            f"Something is off in {service} since five. Have a look at the logs?",
            f"{random.choice(PEOPLE)} says {service} is slow. Logs, please.",
            f"Alarm from {service}, again. What do its logs say?",
            f"Can you read the last lines of {service} and tell me whether I should get up? 😴",
        )
    )
    return _called(said, "tail_logs", {"service": service, "lines": len(lines)}, lines, reading)


def api_answer(random: Random) -> Exchange:
    """A JSON answer of our own API."""
    pilot = random.choice(PILOTS)
    items = [
        {
            "vehicle": f"V{random.randrange(100, 999)}",
            "driver": {
                "initials": random.choice(("A.K.", "M.L.", "J.P.", "S.T.", "R.O.", "Y.H.")),
                "on_shift": random.randrange(4) > 0,
            },
            "position": {"lat": 40 + random.randrange(10**6) / 10**5, "lon": random.randrange(10**6) / 10**5},
            "stops": {"done": random.randrange(0, 18), "open": random.randrange(0, 18)},
            "temperature_c": random.randrange(-20, 80) / 10,
            "tags": random.sample(("frozen", "fragile", "école", "24h", "花", "VIP", "retour"), 2),
        }
        for _ in range(random.randrange(13, 23))
    ]
    warm = [str(item["vehicle"]) for item in items if float(str(item["temperature_c"])) > 5]
    body = json.dumps(
        {"customer": pilot, "count": len(items), "vehicles": items}, ensure_ascii=False, indent=1
    ).splitlines()
    reading = f"{len(items)} vehicles for {pilot}. Above 5 °C: {', '.join(warm) if warm else 'none'}. " + random.choice(
        (
            "Positions look plausible, nobody is in the sea this time 🌊.",
            "I would call the warm ones before the next stop; a door that does not close is the usual reason.",
            "The sensors of two of them were replaced last week, so take the decimals with salt.",
        )
    )
    said = random.choice(
        (
            f"Fetch the live fleet of {pilot}; is anything too warm?",
            f"{pilot} asks where everyone is right now. Can you fetch it?",
            f"Check the cold chain at {pilot}, please.",
        )
    )
    return _called(said, "http_get", {"path": f"/v1/fleets/{pilot}/live"}, body, reading)


def load_test(random: Random) -> Exchange:
    """A load test, per endpoint."""
    target = random.randrange(2, 20) * 50
    rows = []
    for entity in random.sample(ENTITIES, 12):
        for verb in ("GET", "POST", "PATCH"):
            p50 = random.randrange(4, 60)
            p95 = p50 * random.randrange(2, 6)
            rows.append(
                (
                    verb,
                    f"/v1/{entity}s",
                    random.randrange(900, 90000),
                    p50,
                    p95,
                    p95 * random.randrange(2, 5),
                    random.randrange(40),
                )
            )
    lines = [
        f"target {target} requests/s, 10 minutes, warm-up 60 s",
        "method path             requests   p50   p95   p99  errors",
    ]
    lines += [
        f"{verb:<6} {path:<16} {count:>8} {p50:>5} {p95:>5} {p99:>5} {bad:>7}"
        for verb, path, count, p50, p95, p99, bad in rows
    ]
    lines += ["", "latency of all requests, milliseconds"]
    lines += [
        f"{edge:>6} ms | {'█' * random.randrange(1, 40)} {random.randrange(10, 99999)}"
        for edge in (1, 2, 5, 10, 20, 50, 100, 200, 500)
    ]
    worst = max(rows, key=lambda row: row[5])
    reading = (
        f"At {target} requests a second the tail belongs to {worst[0]} {worst[1]}: p99 {worst[5]} ms against a p50 of "
        f"{worst[3]} ms. {sum(row[6] for row in rows)} errors over all endpoints. Before tuning anything, check "
        "whether that one waits for a connection."
    )
    said = random.choice(
        (
            f"Load test at {target}/s please, the usual ten minutes.",
            f"Would we survive {target} requests a second? Try it on staging.",
            f"Repeat the load test with {target}/s, {random.choice(PEOPLE)} does not believe the last one.",
        )
    )
    return _called(said, "load_test", {"rate": target, "minutes": 10}, lines, reading)


def profile(random: Random) -> Exchange:
    """A profile by function."""
    service = random.choice(_SERVICES)
    rows = []
    left = 1000
    for _ in range(random.randrange(32, 56)):
        share = random.randrange(0, max(2, left // 4))
        left -= share
        module = f"{service}/{random.choice(ENTITIES)}.py:{random.randrange(10, 600)}"
        rows.append(
            (share, random.randrange(100, 99999), module, f"{random.choice(_VERBS)}_{random.choice(_CONDITIONS)}")
        )
    rows.sort(reverse=True)
    lines = ["  self%     calls  where                          function"]
    lines += [f"  {share / 10:>5.1f} {calls:>9}  {where:<30} {name}" for share, calls, where, name in rows]
    reading = (
        f"The top three functions take {sum(row[0] for row in rows[:3]) / 10:.1f} % of the time, `{rows[0][3]}` alone "
        f"{rows[0][0] / 10:.1f} %. It is called {rows[0][1]} times; calling it once per batch would be the first thing "
        "to try."
    )
    said = random.choice(
        (
            f"Where does {service} spend its time? Profile a minute.",
            f"{service} uses a whole core on staging. Profile it?",
            f"Profile {service} for a minute, I want to know before the planning.",
        )
    )
    return _called(said, "profile", {"service": service, "seconds": 60}, lines, reading)


TOOL_OUTPUTS = (suite_run, query, logs, api_answer, load_test, profile)


def _called(said: str, tool: str, arguments: Mapping[str, object], lines: list[str], reading: str) -> Exchange:
    return (
        user(said),
        Draft(Role.ASSISTANT, "", tool_name=tool, arguments=json.dumps(arguments, ensure_ascii=False)),
        Draft(Role.TOOL, "\n".join(lines), tool_name=tool),
        assistant(reading),
    )
