"""The program that makes lower levels, and the only one that decodes media.

Run with the pid of its parent and with what it is for, `texts` or `media`, as its arguments, it answers each request on
its standard input by one answer on its standard output. Nothing secret is there to be read: the program is executed
afresh, with no variable that holds a secret, and has no descriptor but its input, its output and, until it has started,
the log. It has no network where the kernel lets it leave the network, and ends with its parent.

The bytes of media are hostile, so the program for media looks at none itself. It forks a process for each request. That
process gives up everything that it could do harm with, has a few seconds of a processor, and ends with its answer:

- One tenant's bytes are in no process that sees another's.
- A decoder that crashes, hangs or eats memory ends its own process, and the answer says how.

No decoder sees a text: the program for texts works on requests itself, for a fork costs more than most texts do.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages
from typing import BinaryIO, Final, NoReturn

from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.fault_handler.compression_frames import (
    ANSWER_BYTES_MAX,
    LENGTH_BYTES,
    Died,
    Page,
    frame,
    packed_death,
    packed_levels,
    unpacked_pages,
)
from pagekeeper.fault_handler.confinement import confine, tie_to_parent, without_network
from pagekeeper.fault_handler.viewing import Lowered, lowered, lowered_undecoded
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.tokens import EncodingName, tokenizer

TEXTS: Final = "texts"
MEDIA: Final = "media"
READY: Final = b"ready"
"""Said once, before the first answer: starting takes a busy machine long, and is no answer that is late."""
NICENESS: Final = 10
MEMORY_BYTES: Final = 512 * 1024 * 1024
"""On top of what the program has mapped: a picture of 16 million pixels is there up to four times, at 64 MiB each."""
CPU_SECONDS: Final = 10
"""Of a processor, for a medium: a picture takes half a second, and a film is given up after `FILM_CPU_SECONDS_MAX`."""
ANSWER_SECONDS_MAX: Final = 90.0
"""Of the clock on the wall: a process that neither computes nor ends."""
CHUNK_BYTES: Final = 1024 * 1024
DECODERS: Final = ("numpy", "PIL.Image", "PIL.ImageDraw", "PIL.ImageOps", "pagekeeper.core.compress.pictures")
"""Of the extra `media`, besides the whole of `av`: modules are imported before no file can be opened any more."""
PLUGINS: Final = ("Png", "Jpeg", "Mpo", "Gif", "WebP", "Bmp", "Tiff", "Avif", "Ppm")
"""Of Pillow, one for each format of `core.compress.pictures` and those that these import: Mpo is a kind of JPEG."""

_ANSWER_FD: Final = 3
_CLOCK: Final = SystemClock()


def main() -> None:
    """Answer requests until there is no more."""
    parent, purpose = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tie_to_parent(int(parent))
    os.environ.clear()
    os.nice(NICENESS)
    registry, count = CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count

    def lower(page: Page) -> Lowered:
        if page.undecodable:
            return lowered_undecoded(registry, page.source, page.heard, count)
        return lowered(registry, page.source, page.data, page.heard, count)

    def answer(request: bytes) -> bytes:
        return _answer_of_fork(request, lower) if purpose == MEDIA else _answer(request, lower)

    if purpose == MEDIA:
        _load_decoders()
    without_network()
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not touch, and thereby copy, all memory
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write(frame(READY))
    answers.flush()
    while (request := _next(requests)) is not None:
        answers.write(frame(answer(request)))
        answers.flush()


def _load_decoders() -> None:
    """Import all that decoding needs. Without the extra `media` that is nothing."""
    if find_spec("av") is None or find_spec("PIL") is None:
        return
    for part in walk_packages(import_module("av").__path__, "av."):
        if part.name != "av.__main__":
            import_module(part.name)
    for name in (*DECODERS, *(f"PIL.{plugin}ImagePlugin" for plugin in PLUGINS)):
        import_module(name)


def _next(requests: BinaryIO) -> bytes | None:
    length = requests.read(LENGTH_BYTES)
    return requests.read(int.from_bytes(length, "big")) if len(length) == LENGTH_BYTES else None


def _answer(request: bytes, lower: Callable[[Page], Lowered]) -> bytes:
    return packed_levels([lower(page) for page in unpacked_pages(request)])


def _answer_of_fork(request: bytes, lower: Callable[[Page], Lowered]) -> bytes:
    """The content of the answer to a request: what a process of its own says, or how the process died."""
    readable, writable = os.pipe()
    program = os.getpid()
    forked = os.fork()
    if not forked:
        _lower_and_end(request, lower, writable, program)
    os.close(writable)
    answer = _read(readable)
    os.close(readable)
    os.kill(forked, signal.SIGKILL)  # it has ended, or it is stuck
    _, status, used = os.wait4(forked, 0)
    code = os.waitstatus_to_exitcode(status)
    if answer is not None and code == 0:
        return answer
    if answer is None and code == -signal.SIGKILL:
        how = f"no answer of up to {ANSWER_BYTES_MAX:,} bytes in {ANSWER_SECONDS_MAX:g} s"
        return packed_death(Died(how, by_itself=False))
    if code == -signal.SIGXCPU or used.ru_utime + used.ru_stime >= CPU_SECONDS:
        return packed_death(Died(f"more than {CPU_SECONDS} s of a processor", by_itself=True))
    # The kernel kills with SIGKILL when the machine has no memory left, whoever took it.
    how = f"signal {-code}" if code < 0 else f"status {code}"
    return packed_death(Died(how, by_itself=code != -signal.SIGKILL))


def _lower_and_end(request: bytes, lower: Callable[[Page], Lowered], writable: int, program: int) -> NoReturn:
    """Work on a request in this process, which has forked from `program`, say what was made, and end."""
    status = 1
    try:
        tie_to_parent(program)
        for descriptor in (sys.stdin.fileno(), sys.stdout.fileno()):
            os.dup2(sys.stderr.fileno(), descriptor)
        os.dup2(writable, _ANSWER_FD)
        os.closerange(_ANSWER_FD + 1, writable + 2)
        confine(memory_bytes=MEMORY_BYTES, cpu_seconds=CPU_SECONDS)
        answer = memoryview(_answer(request, lower))
        while answer:
            answer = answer[os.write(_ANSWER_FD, answer) :]
        status = 0
    finally:
        os._exit(status)


def _read(readable: int) -> bytes | None:
    """All that is written to a pipe; None when that is too much, or takes too long."""
    deadline = _CLOCK.monotonic() + ANSWER_SECONDS_MAX
    waiting = select.poll()
    waiting.register(readable, select.POLLIN)
    read = bytearray()
    while len(read) <= ANSWER_BYTES_MAX and waiting.poll(max(0.0, deadline - _CLOCK.monotonic()) * 1_000):
        chunk = os.read(readable, CHUNK_BYTES)
        if not chunk:
            return bytes(read)
        read += chunk
    return None


if __name__ == "__main__":
    main()
