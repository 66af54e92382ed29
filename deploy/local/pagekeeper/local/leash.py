"""Becomes the command that it is given, which from then on dies with its parent.

    python -I -S leash.py <pid of the parent> <command> <argument>...

The kernel sends SIGKILL to whoever asked for it when the *thread* that started it ends, so children are started from a
thread that lives as long as the process. A program of its own because asking must happen between fork and exec, where a
process with threads may run no Python (`preexec_fn`).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

parent, *command = sys.argv[1:]
if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) was refused: the launcher cannot promise to leave nothing behind")
if os.getppid() != int(parent):
    sys.exit("the launcher is gone")  # it died before the kernel was asked
os.execv(command[0], command)  # noqa: S606 - becomes the command on purpose
