"""Hostile media end in bounded time and memory, cost nobody else anything, and find nothing in their process."""

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import DECODED, UNDECODABLE
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.ids import TenantId
from pagekeeper.core.pages import MediaDescription, Modality
from pagekeeper.fault_handler import compression_runner as runners
from pagekeeper.fault_handler.compression_child import CPU_SECONDS, MEMORY_BYTES
from pagekeeper.fault_handler.compression_frames import Page
from pagekeeper.fault_handler.compression_runner import ConfinedCompressor, InlineCompressor
from pagekeeper.fault_handler.turns import Line
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.integration import hostile_media
from tests.integration.hostile_media import Hostile
from tests.unit.films import film, song

pictures = pytest.importorskip("pagekeeper.core.compress.pictures")

INLINE = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)
MALLORY, ALICE = Line(TenantId("mallory")), Line(TenantId("alice"))
TEXT = Page(Source("said", Modality.TEXT, "In week 7 the team of Alice moved 49 servers to Oslo. Nothing broke. " * 9))
PHOTO = hostile_media.picture_of("PNG")


def medium(modality: Modality, data: bytes) -> Page:
    return Page(Source("m", modality, media=MediaDescription("What was written")), data)


@pytest.fixture
async def confined() -> AsyncIterator[ConfinedCompressor]:
    one = ConfinedCompressor(INLINE)
    yield one
    await one.close()


def programs() -> list[int]:
    """Processes of this one that decode."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"\0media\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def everything_hostile() -> Iterator[Hostile]:
    yield from hostile_media.bombs()
    yield from hostile_media.disguises()
    yield from hostile_media.streams(song(), film(10))
    yield "an animation of 100,000 frames", Modality.IMAGE, hostile_media.animation(100_000)


async def lowered(confined: ConfinedCompressor, page: Page, line: Line = MALLORY) -> list[Compressed]:
    [levels] = await confined.lower([page], line)
    return levels


def marks(levels: Sequence[Compressed]) -> set[str]:
    return {level.compressor for level in levels} & {DECODED, UNDECODABLE}


@pytest.mark.parametrize("pillow_format", pictures.FORMATS)
async def test_each_format_that_is_read_is_decoded_in_confinement_as_it_is_here(
    pillow_format: str, confined: ConfinedCompressor
) -> None:
    page = medium(Modality.IMAGE, hostile_media.picture_of(pillow_format))
    levels = await lowered(confined, page)
    assert levels == INLINE.lower_now([page])[0]
    assert levels[0].preview is not None


@pytest.mark.parametrize("pillow_format", ["EPS", "PPM", "TGA", "ICO", "PCX", "SGI", "JPEG2000", "PDF"])
async def test_no_other_format_is_opened(pillow_format: str, confined: ConfinedCompressor) -> None:
    page = medium(Modality.IMAGE, hostile_media.picture_of(pillow_format))
    assert marks(await lowered(confined, page)) == {UNDECODABLE}


async def test_whatever_is_sent_has_a_level_that_says_whether_it_was_decoded(confined: ConfinedCompressor) -> None:
    """And the processes that are asked live on, so nothing of it has ended them."""
    await lowered(confined, medium(Modality.IMAGE, PHOTO))
    before = programs()
    for name, modality, data in everything_hostile():
        levels = await lowered(confined, medium(modality, data))
        assert marks(levels), name
        assert levels[0].text.startswith("What was written"), name
    assert programs() == before


DAMAGED_EACH = 12
TRUNCATED_EACH = 24


async def test_truncated_and_damaged_media_end_no_process(confined: ConfinedCompressor) -> None:
    whole = [(Modality.IMAGE, hostile_media.picture_of(name)) for name in pictures.FORMATS]
    whole += [(Modality.VIDEO, film(10, 200, said=["Mind the step."])), (Modality.AUDIO, song(PHOTO))]
    await lowered(confined, medium(Modality.IMAGE, PHOTO))
    before = programs()
    for seed, (modality, data) in enumerate(whole):
        cut = hostile_media.truncated(data, max(1, len(data) // TRUNCATED_EACH))
        for broken in chain(cut, hostile_media.damaged(data, seed, DAMAGED_EACH)):
            if broken:
                assert marks(await lowered(confined, medium(modality, broken)))
    assert programs() == before


async def test_a_bad_medium_costs_the_others_of_its_request_nothing(confined: ConfinedCompressor) -> None:
    [(_, modality, bomb), *_] = hostile_media.bombs()
    good = medium(Modality.IMAGE, PHOTO)
    made = await confined.lower([TEXT, medium(modality, bomb), good, TEXT], MALLORY)
    assert [made[0], made[2], made[3]] == INLINE.lower_now([TEXT, good, TEXT])
    assert marks(made[1]) == {UNDECODABLE}


async def test_who_waits_behind_hostile_media_has_the_next_turn(confined: ConfinedCompressor) -> None:
    """One tenant fills both processes and its line; the next turn is another's, and texts do not wait at all."""
    bombs = [medium(modality, data) for _, modality, data in hostile_media.bombs()]
    ended: list[str] = []

    async def ask(name: str, page: Page, line: Line) -> None:
        await lowered(confined, page, line)
        ended.append(name)

    flood = [asyncio.ensure_future(ask("mallory", page, MALLORY)) for page in bombs]
    await asyncio.sleep(0)
    await asyncio.gather(ask("alice's picture", medium(Modality.IMAGE, PHOTO), ALICE), ask("alice's text", TEXT, ALICE))
    assert ended.count("mallory") <= runners.MEDIA_WORKERS + 1
    await asyncio.gather(*flood)


SECRET = "a-secret-of-the-service-that-no-decoder-sees"


async def test_nothing_of_the_service_is_in_the_process_that_decodes(
    confined: ConfinedCompressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its environment, nor its descriptors, nor a word of its memory."""
    monkeypatch.setenv("PK_S3_SECRET_KEY", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    others = programs()
    descriptor = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - of the library
    await lowered(confined, medium(Modality.IMAGE, PHOTO))
    os.close(descriptor)
    [pid] = set(programs()) - set(others)
    names = variables_of(pid)
    assert "PK_S3_SECRET_KEY" not in names
    assert names <= {*runners.ENVIRONMENT_KEPT, *runners.ENVIRONMENT_SET}
    assert descriptors_of(pid).keys() == {"0", "1", "2"}
    assert descriptors_of(pid)["2"] == os.devnull
    assert not remembers(pid, SECRET.encode())
    assert remembers(pid, b"compression_child"), "it is looked for where it would be"


def variables_of(pid: int) -> set[str]:
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    return {variable.partition(b"=")[0].decode() for variable in environment.split(b"\0") if variable}


def descriptors_of(pid: int) -> dict[str, str]:
    return {file.name: str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}


def remembers(pid: int, word: bytes) -> bool:
    """Tell whether a word is anywhere in the memory of a process."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, rights, *_ = line.split()
            begin, end = (int(address, 16) for address in addresses.split("-"))
            if rights.startswith("r") and "[v" not in line:
                memory.seek(begin)
                if word in memory.read(end - begin):
                    return True
    return False


ATTEMPTS = """
import ctypes, os, signal, socket, subprocess, sys, threading
from pagekeeper.fault_handler.confinement import confine, without_network
without_network()
libc = ctypes.CDLL(None, use_errno=True)
attempts = {
    "a socket": lambda: socket.socket(),
    "a pair of sockets": lambda: socket.socketpair(),
    "a socket by its number": lambda: libc.socket(2, 1, 0) >= 0 or fail(),
    "a file to read": lambda: open("/etc/passwd"),
    "a file to write": lambda: open("/tmp/written-by-a-decoder", "w"),
    "a pipe": os.pipe,
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a child": lambda: subprocess.run(["/bin/true"]),
    "a fork": lambda: os.fork() or os._exit(0),
    "a signal": lambda: os.kill(os.getppid(), 0),
    "a larger limit": lambda: __import__("resource").setrlimit(7, (64, 64)),
    "a thread": lambda: run_thread(),
    "memory within the limit": lambda: bytearray(16 << 20),
    "memory": lambda: bytearray(96 << 20),
}
def fail():
    raise OSError(ctypes.get_errno(), "refused")
def run_thread():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
confine(memory_bytes=64 << 20, cpu_seconds=2)
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError, ValueError) as error:
        os.write(1, f"{name}: {type(error).__name__}\\n".encode())
    else:
        os.write(1, f"{name}: done\\n".encode())
os.write(1, b"computing\\n")
while True:
    pass
"""


def test_a_confined_process_reaches_nothing_and_ends() -> None:
    """Whatever runs in it: here Python, as one who has taken over a decoder would."""
    process = subprocess.run([sys.executable, "-c", ATTEMPTS], capture_output=True, text=True, check=False, timeout=120)
    *told, last = process.stdout.splitlines()
    outcomes = dict(line.split(": ") for line in told)
    done = {name for name, outcome in outcomes.items() if outcome == "done"}
    assert done == {"a thread", "memory within the limit"}, process.stderr
    assert outcomes["memory"] == "MemoryError"
    assert (last, process.returncode) == ("computing", -signal.SIGXCPU)


async def test_a_process_that_decodes_ends_with_the_service() -> None:
    """Also when the service is killed, and also what it has forked in the middle of a page."""
    program = (
        "import asyncio, sys\n"
        "from tests.integration.test_hostile_media import INLINE, MALLORY, PHOTO, medium, programs\n"
        "from pagekeeper.core.pages import Modality\n"
        "from pagekeeper.fault_handler.compression_runner import ConfinedCompressor\n"
        "async def main():\n"
        "    await ConfinedCompressor(INLINE).lower([medium(Modality.IMAGE, PHOTO)], MALLORY)\n"
        "    print(*programs(), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    pid = int(await service.stdout.readline())
    assert _is_running(pid)
    service.kill()
    await service.wait()
    async with asyncio.timeout(20):
        while _is_running(pid):  # noqa: ASYNC110 - nobody tells when a process of another one has ended
            await asyncio.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except FileNotFoundError:
        return False


def test_the_limits_leave_room_for_what_is_decoded() -> None:
    assert pictures.PIXELS_MAX == 16 * 1024**2
    assert 4 * 4 * pictures.PIXELS_MAX <= MEMORY_BYTES
    assert CPU_SECONDS <= 10
    assert ctypes.sizeof(ctypes.c_void_p) == 8
