"""Every line is one JSON object that says where it belongs."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from pagekeeper.runtime.telemetry import CALL_LINES_DELAY_SECONDS, CALL_LINES_MAX, CallLog, enter_scope, start_logging
from tests.fakes.manual_clock import ManualClock


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def logging_of_pytest() -> Iterator[None]:
    """Give the root logger back to pytest."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def calls(stream: io.StringIO) -> CallLog:
    return start_logging("info", stream, ManualClock(now_ms=1_800_000_000_042))


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_in_which_call_it_was_written(calls: CallLog, stream: io.StringIO) -> None:
    log = logging.getLogger("pagekeeper.test")

    def call() -> None:
        enter_scope("t1", "acme")
        log.info("page %s is placed", "p1", extra={"object": "acme/segment", "size_bytes": 17})

    copy_context().run(call)
    log.warning("outside")
    log.debug("not at this level")
    inside, outside = lines(stream)
    time = str(inside.pop("time"))
    assert time.endswith("Z")
    assert inside == {
        "level": "info",
        "logger": "pagekeeper.test",
        "message": "page p1 is placed",
        "trace": "t1",
        "tenant": "acme",
        "object": "acme/segment",
        "size_bytes": 17,
    }
    assert not {"trace", "tenant"} & set(outside)
    assert calls is not None


def test_an_exception_is_part_of_its_line(calls: CallLog, stream: io.StringIO) -> None:
    with pytest.raises(KeyError) as raised:
        dict[str, str]()["gone\nand two lines"]
    logging.getLogger("pagekeeper.test").error("a defect", exc_info=raised.value)
    (line,) = lines(stream)
    assert "Traceback" in str(line["exception"])
    assert "test_telemetry" in str(line["exception"])
    assert calls is not None


async def test_calls_are_written_a_little_later(calls: CallLog, stream: io.StringIO) -> None:
    calls.write("pagekeeper.v1.MemoryService/GetPage", "PAGE_NOT_FOUND", 1.234, "t1", "acme")
    assert not stream.getvalue()
    await asyncio.sleep(2 * CALL_LINES_DELAY_SECONDS)
    assert lines(stream) == [
        {
            "time": "2027-01-15T08:00:00.042Z",
            "level": "info",
            "logger": "pagekeeper.rpc",
            "message": "call",
            "trace": "t1",
            "tenant": "acme",
            "method": "pagekeeper.v1.MemoryService/GetPage",
            "outcome": "PAGE_NOT_FOUND",
            "ms": 1.23,
        }
    ]
    # And the next one is, too.
    calls.write("pagekeeper.v1.MemoryService/GetPage", "OK", 1.0, "t2", "acme")
    await asyncio.sleep(2 * CALL_LINES_DELAY_SECONDS)
    assert [line["trace"] for line in lines(stream)] == ["t1", "t2"]


async def test_many_calls_do_not_wait(calls: CallLog, stream: io.StringIO) -> None:
    for number in range(CALL_LINES_MAX):
        calls.write("m", "OK", 1.0, f"t{number}", "acme")
    assert len(lines(stream)) == CALL_LINES_MAX


async def test_calls_are_silent_above_info(stream: io.StringIO) -> None:
    start_logging("warning", stream, ManualClock()).write("m", "OK", 1.0, "t1", "acme")
    await asyncio.sleep(2 * CALL_LINES_DELAY_SECONDS)
    assert not stream.getvalue()
