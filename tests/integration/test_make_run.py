"""`make run` as a whole, in one process: what it leaves behind, however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagekeeper.runtime.clock import SystemClock
from tests.integration.leavings import sockets_of, users_of

CLOCK = SystemClock()
ROOT = Path(__file__).parents[2]
READY_SECONDS_MAX = 180.0
TALK = '{"role": "user", "content": "Hello"}\n{"role": "assistant", "content": "Good morning"}\n'


@contextmanager
def running(directory: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`make run`, with a short conversation, from a directory where all of its files are."""
    (directory / "tmp").mkdir()
    (directory / "talk.jsonl").write_text(TALK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory / "tmp")}
    environment |= {"CONVERSATION": "talk.jsonl", "TOPOLOGY": "one"}
    run = subprocess.Popen(
        [sys.executable, "-m", "demo", "run"],
        cwd=directory,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not holds():
        assert CLOCK.monotonic() < deadline
        time.sleep(0.02)


def wait_until_said(run: subprocess.Popen[bytes], text: str) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        if text in line.decode():
            return
    pytest.fail(f"it ended without saying {text!r}")


def left(directory: Path) -> list[str]:
    files = [str(path) for path in (directory / "tmp").iterdir()]
    return files + users_of(directory)


def test_once_replays_and_ends(tmp_path: Path) -> None:
    with running(tmp_path, {"ONCE": "1", "REPORT": "report.json"}) as run:
        out, err = run.communicate(timeout=READY_SECONDS_MAX)
        assert run.returncode == 0, err.decode()
    assert b"ready in" in out
    assert err == b""
    assert json.loads((tmp_path / "report.json").read_text())
    assert not left(tmp_path)
    assert not (tmp_path / ".pagekeeper" / "stack.json").exists()


def test_ctrl_c_after_the_replay_ends_it_well(tmp_path: Path) -> None:
    with running(tmp_path, {"DATA_DIR": "kept"}) as run:
        wait_until_said(run, "goes on running")
        users = users_of(tmp_path)
        assert sockets_of(users) or shutil.which("minio")
        assert set(json.loads((tmp_path / ".pagekeeper" / "stack.json").read_text())) == {
            "endpoint",
            "token",
            "environment",
        }
        assert (tmp_path / "kept" / "stack.json").stat().st_mode & 0o077 == 0
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 0
    assert not left(tmp_path)
    assert not sockets_of(users)
    assert not os.path.lexists(tmp_path / ".pagekeeper" / "stack.json")
    assert (tmp_path / "kept" / "nats" / "jetstream").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, {}) as run:
        wait_until(lambda: len(users_of(tmp_path)) > 2, READY_SECONDS_MAX)
        run.send_signal(number)
        assert run.wait(20) == 130
    assert not left(tmp_path)


def test_sigkill_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, {}) as run:
        wait_until_said(run, "ready in")
        users = users_of(tmp_path)
        run.send_signal(signal.SIGKILL)
        wait_until(lambda: not left(tmp_path) and not sockets_of(users), 10)
    assert not (tmp_path / ".pagekeeper" / "stack.json").exists()


def test_a_service_that_dies_ends_it_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, {"DATA_DIR": "kept"}) as run:
        wait_until_said(run, "goes on running")
        [service] = [line.split()[0] for line in users_of(tmp_path) if "serve\\x00all" in line]
        os.kill(int(service), signal.SIGKILL)
        assert run.wait(20) == 2
        assert run.stderr is not None
        assert b"pagekeeper: all ended with status -9" in run.stderr.read()
    assert not left(tmp_path)


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PK_LOG_LEVEL", b"pagekeeper: PK_LOG_LEVEL is 'loud'"),  # which the making of the log's streams reads, too
        ("PK_EMBEDDER", b"pagekeeper: all ended with status 2;"),  # which the services alone read
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(variable: str, said: bytes, tmp_path: Path) -> None:
    with running(tmp_path, {variable: "loud"}) as run:
        _, err = run.communicate(timeout=READY_SECONDS_MAX)
        assert run.returncode == 2
    assert err.startswith(said)
    assert variable.encode() in err
    assert not left(tmp_path)
