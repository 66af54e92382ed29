"""A process ends when it is told to, in its own time, and at once when it is told again."""

import signal
import subprocess
import sys

import pytest

from pagekeeper.runtime.process import CANNOT_START_STATUS

PROGRAM = """
import asyncio
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.process import run

async def main(stop: asyncio.Event) -> None:
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    {ending}
    print("stopped", flush=True)

run(main)
"""
WAIT_SECONDS = 10


def start(ending: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(ending=ending)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    with start(ending="await asyncio.sleep(0.05)") as process:
        assert said(process) == "ready"
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, out, err) == (0, "stopping\nstopped\n", "")


def test_a_second_signal_does_not_ask() -> None:
    with start(ending="await asyncio.Event().wait()") as process:
        assert said(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert said(process) == "stopping"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == -signal.SIGTERM


def test_a_process_that_cannot_start_says_so_in_one_line() -> None:
    with start(ending='raise CannotStart("PK_LISTEN is not set: it is where to take calls")') as process:
        assert said(process) == "ready"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == CANNOT_START_STATUS
    assert err == "pagekeeper: PK_LISTEN is not set: it is where to take calls\n"
