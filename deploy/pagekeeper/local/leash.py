"""A command that dies with whoever started it.

Run as a program it becomes the command that it is given, after it has asked the kernel to send SIGKILL when its parent
ends. A program of its own because the kernel must be asked between fork and exec, where a process with threads may run
no Python (`preexec_fn`). The kernel takes the *thread* that forked as the parent, so children are started from a thread
that lives as long as the process.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str]) -> list[str]:
    """Return the command that becomes `command`, an absolute path and arguments, and dies with this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) was refused: the launcher cannot promise to leave nothing behind")
    if os.getppid() != parent:
        sys.exit("the launcher is gone")  # it died before the kernel was asked
    os.execv(command[0], command)  # noqa: S606 - becomes the command on purpose


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
