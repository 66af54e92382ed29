"""Removes files when the launcher ends, however it ends.

Run as a program it is the sweeper itself: it reads paths, each ended by a NUL byte, until its standard input closes,
which the kernel sees to when the launcher dies; then it removes them. Processes that are dying at the same moment may
still write, so it repeats until nothing is left.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

_SWEEP_SECONDS_MAX = 5.0
_PAUSE_SECONDS = 0.05


class Sweeper:
    """A process that outlives this one just long enough to remove what was named to it. Leaving the block ends it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def remove_at_end(self, path: Path) -> None:
        """Remove this file or directory when the block is left or the process has died. The path need not exist."""
        assert self._process.stdin is not None
        self._process.stdin.write(os.fsencode(path.absolute()) + b"\0")
        self._process.stdin.flush()


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    return True


def _sweep() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    paths = [Path(os.fsdecode(path)) for path in sys.stdin.buffer.read().split(b"\0") if path]
    for _ in range(int(_SWEEP_SECONDS_MAX / _PAUSE_SECONDS)):
        paths = [path for path in paths if not _remove(path)]
        if not paths:
            return
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    _sweep()
