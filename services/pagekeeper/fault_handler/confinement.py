"""Rights that a process gives up before it reads hostile bytes. Linux alone has all of it.

Guarantees, once `confine` has returned, whatever then runs in the process:
- No descriptor can be opened: no file, no socket, no pipe. `RLIMIT_NOFILE` is zero, on every kernel.
- Memory grows by `memory_bytes` at most, and the processor is used for `cpu_seconds` at most.
- Nothing is executed, forked, traced, mounted or reached in another process, and no socket is made: a seccomp filter,
  on x86-64 and 64-bit ARM. Threads are allowed, since decoders start them.
- The process ends with its parent, from `tie_to_parent` on.

`without_network` leaves the network as well where the kernel lets an unprivileged process do so.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000

# Classic BPF: linux/bpf_common.h, linux/seccomp.h.
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_JUMP_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_FIRST_ARGUMENT_AT: Final = 16
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_REFUSE: Final = 0x00050000
_EPERM: Final = 1
_ENOSYS: Final = 38
_X32: Final = 0x40000000
"""A second set of numbers for the calls of x86-64."""

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The number in linux/audit.h, and the column of `_CALLS`."""
_CALLS: Final = {
    # A way out of the process: sockets, and io_uring, which makes sockets behind a filter's back.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # Another program, another process's memory, a signal to another process.
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "kill": (62, 129), "tkill": (200, 130), "pidfd_send_signal": (424, 424),
    # Its own limits, namespaces, and parts of the kernel that no decoder needs.
    "prlimit64": (302, 261), "setrlimit": (160, 164), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "memfd_create": (319, 279), "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104),
    "reboot": (169, 142), "personality": (135, 92), "open_by_handle_at": (304, 265), "shmget": (29, 194),
    "msgget": (68, 186), "semget": (64, 190),
}  # fmt: skip
"""Refused calls: their numbers on x86-64 and on 64-bit ARM."""
_FORKS_OF_X86: Final = (57, 58)
"""fork and vfork, which 64-bit ARM has not."""
_CLONE: Final = (56, 220)
_CLONE3: Final = 435


def tie_to_parent(parent: int) -> None:
    """Have the kernel end this process when its parent, whose pid is `parent`, ends."""
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the parent is gone")  # it died before the kernel was asked


def without_network() -> bool:
    """Leave the network for an empty one of this process's own. Answers whether the kernel let it.

    Must be called before the process has threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def confine(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Give all of it up, for good. Raises OSError when the kernel refuses.

    `memory_bytes` are on top of what the process has mapped. The processor's time counts from the process's start.
    """
    for limit, most in (
        (resource.RLIMIT_AS, _mapped_bytes() + memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    # A signal that says so first: at its second limit the kernel kills as it does when the machine has no memory left.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    machine = os.uname().machine
    if machine in _ARCHITECTURES:
        _filter_calls(machine)


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _filter_calls(machine: str) -> None:
    program = _program(machine)
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    filtering = Program(len(program) // 8, ctypes.addressof(instructions))
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtering))


def _program(machine: str) -> bytes:
    """The filter: refuse the calls of `_CALLS`, clones that are no threads, and numbers of other architectures."""
    architecture, column = _ARCHITECTURES[machine]
    refused = [numbers[column] for numbers in _CALLS.values()]
    steps = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    steps.append((_LOAD, 0, 0, _NUMBER_AT))
    if machine == "x86_64":
        refused += _FORKS_OF_X86
        steps += [(_JUMP_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    # The C library takes the answer for an old kernel's, and clones; clone's flags a filter can see.
    steps += [(_JUMP_IF_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _REFUSE | _ENOSYS)]
    for number in refused:
        steps += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    steps += [
        (_JUMP_IF_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_IF_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _call(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function} was refused: {os.strerror(ctypes.get_errno())}")
