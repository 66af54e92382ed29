"""A saved memory is read whole or refused, a save that fails leaves the old file, and what was loaded goes on."""

import asyncio
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.fold_rules import FOLD_VERSION
from pagekeeper.memory import MemoryManager, SavedMemoryUnreadable, SessionManager
from pagekeeper.memory.saved_file import DIGEST_BYTES, MAGIC, VERSION, from_bytes
from tests.unit.memory.histories import SENTENCES, SMALL, STEPS, History, Step

HEAD: Final = len(MAGIC) + len(f"{VERSION}\n")
QUESTION: Final = "Which port does the gateway listen on?"
REGIONS: Final = {
    "the words at the beginning": (0, len(MAGIC)),
    "the format": (len(MAGIC), HEAD),
    "the digest": (HEAD, HEAD + DIGEST_BYTES),
    "the content": (HEAD + DIGEST_BYTES, None),
}


@cache
def saved() -> bytes:
    """The bytes of a small memory."""
    memory = MemoryManager("s", config=SMALL)
    for sentence in SENTENCES:
        asyncio.run(memory.add_user_message(sentence))
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.memory")
        memory.save(path)
        return path.read_bytes()


def refused(path: Path, data: bytes) -> str:
    """The sentence that refuses a file of these bytes, the same from all who read one."""
    path.write_bytes(data)
    sentences = set()
    for load in (MemoryManager.load, SessionManager.load):
        with pytest.raises(SavedMemoryUnreadable) as refusal:
            load(path)
        sentences.add(str(refusal.value))
    [sentence] = sentences
    assert sentence.startswith(str(path))
    assert path.read_bytes() == data
    return sentence


@pytest.mark.parametrize("region", REGIONS)
def test_a_byte_that_is_not_as_it_was_is_noticed(region: str, tmp_path: Path) -> None:
    start, end = REGIONS[region]
    data = saved()
    for place in range(*slice(start, end).indices(len(data))):
        for flipped in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[place] ^= flipped
            with pytest.raises(SavedMemoryUnreadable, match=r"^it "):
                from_bytes(bytes(damaged))
    assert "is damaged" in refused(tmp_path / "a.memory", data[:-1] + bytes([data[-1] ^ 1]))


def test_a_file_that_was_cut_short_is_noticed_wherever_it_was(tmp_path: Path) -> None:
    data = saved()
    for size in range(len(data)):
        with pytest.raises(SavedMemoryUnreadable, match=r"^it is (?:no saved memory|damaged)"):
            from_bytes(data[:size])
    assert "is damaged" in refused(tmp_path / "a.memory", data[: len(data) // 2])
    assert "is damaged" in refused(tmp_path / "a.memory", data + b"more")


@pytest.mark.parametrize("foreign", [b"", b"\n", b"PK\x03\x04", b"{}\n", b"pagekeeper", bytes(4_096), MAGIC])
def test_a_foreign_file_is_refused(foreign: bytes, tmp_path: Path) -> None:
    assert "is no saved memory: it does not begin with 'pagekeeper memory'" in refused(tmp_path / "a.memory", foreign)


def with_format(data: bytes, version: int) -> bytes:
    return MAGIC + f"{version}\n".encode() + data[HEAD:]


def changed(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file that a release would write whose values are these."""
    value = json.loads(zlib.decompress(data[HEAD + DIGEST_BYTES :]))
    change(value)
    packed = zlib.compress(json.dumps(value).encode())
    return data[:HEAD] + sha256(packed).digest() + packed


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    sentence = refused(tmp_path / "a.memory", with_format(saved(), VERSION + 1))
    assert sentence.endswith(f"was saved by another release, in format {VERSION + 1}; this one reads {VERSION}")


def another_event(value: dict[str, Any]) -> None:
    value["transactions"][0][3].append({"PagesDreamt": [[]]})


def another_field(value: dict[str, Any]) -> None:
    value["transactions"][0].append("new")


def newer_rules(value: dict[str, Any]) -> None:
    value["transactions"][-1][4] = FOLD_VERSION + 1


def another_policy(value: dict[str, Any]) -> None:
    text = json.dumps(value["transactions"])
    assert '"reuse/5"' in text
    value["transactions"] = json.loads(text.replace('"reuse/5"', '"reuse/99"'))


def another_member(value: dict[str, Any]) -> None:
    [pages] = next(one for one in value["transactions"] if "PagesMapped" in one[3][0])[3][0]["PagesMapped"]
    pages[0][2] = "smell"


@pytest.mark.parametrize(("change", "needed"), [(newer_rules, "fold rules 8"), (another_policy, "policy reuse/99")])
def test_rules_of_a_newer_release_are_refused_with_the_files_name(
    change: Callable[[dict[str, Any]], object], needed: str, tmp_path: Path
) -> None:
    sentence = refused(tmp_path / "a.memory", changed(saved(), change))
    assert "was saved by a newer release: " in sentence
    assert needed in sentence


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        (another_event, "the event PagesDreamt"),
        (another_field, "fields of Transaction"),
        (another_member, "'smell' of"),
    ],
)
def test_what_a_newer_release_wrote_is_refused_and_never_read_in_part(
    change: Callable[[dict[str, Any]], object], unknown: str, tmp_path: Path
) -> None:
    sentence = refused(tmp_path / "a.memory", changed(saved(), change))
    assert "was saved by a newer release: this one does not know" in sentence
    assert unknown in sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.memory"):
        SessionManager.load(tmp_path / "none.memory")


SAVE_WITHOUT_ROOM: Final = """
import asyncio, resource, signal, sys
from pagekeeper.memory import MemoryManager
memory = MemoryManager.load(sys.argv[1])
for number in range(30):
    asyncio.run(memory.add_user_message(f"Number {number * number * 7919} is at door {number}."))
signal.signal(signal.SIGXFSZ, getattr(signal, sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
memory.save(sys.argv[1])
"""
"""The system lets no file grow beyond 600 bytes: it ends the process in the middle of a write, or fails the write."""


@pytest.mark.parametrize(("signalled", "left"), [("SIG_DFL", 1), ("SIG_IGN", 0)])
def test_a_save_that_does_not_end_leaves_the_old_file(signalled: str, left: int, tmp_path: Path) -> None:
    path = tmp_path / "a.memory"
    path.write_bytes(saved())
    command = [sys.executable, "-c", SAVE_WITHOUT_ROOM, str(path), signalled]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode < 0 if signalled == "SIG_DFL" else "OSError" in run.stderr
    assert path.read_bytes() == saved()
    assert len([one for one in tmp_path.iterdir() if one != path]) == left, "a crash alone leaves what it had begun"
    memory = MemoryManager.load(path)
    memory.save(path)
    assert from_bytes(path.read_bytes()) == from_bytes(saved())


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=20))
def test_what_was_loaded_is_what_was_saved_and_goes_on_as_it(steps: list[Step]) -> None:
    async def live(path: Path) -> None:
        history = History(MemoryManager("s", config=SMALL))
        for step in steps:
            await history.step(*step)
        history.memory.save(path)
        loaded = History(MemoryManager.load(path))
        assert shown(loaded.memory) == shown(history.memory)
        for memory in (history.memory, loaded.memory):
            await memory.add_user_message(QUESTION)
        assert shown(loaded.memory) == shown(history.memory)
        assert QUESTION in str(loaded.memory.build_request(QUESTION))

    with TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder, "a.memory")))


LEAVING: Final = st.sampled_from(["add_to_l1", "remove_from_l0", "clear"])


@settings(max_examples=25)
@given(st.lists(st.tuples(LEAVING, st.integers(0, 30)) | st.none(), min_size=1, max_size=10))
def test_what_left_by_the_working_set_is_absent_from_what_was_loaded(steps: list[tuple[str, int] | None]) -> None:
    """Whatever a program does to the working set of a memory is an event of its session; None says something more."""

    async def live(path: Path) -> None:
        memory = MemoryManager("s", config=SMALL)
        held = memory.working_set
        for sentence in SENTENCES:
            await memory.add_user_message(sentence)
        for step in steps:
            resident = memory.get_l0_pages()
            if step is None or not resident:
                await memory.add_user_message(SENTENCES[0])
                continue
            name, place = step
            page = resident[place % len(resident)]
            revision = memory.session.revision
            if name == "add_to_l1":
                assert held.add_to_l1(page)
            elif name == "remove_from_l0":
                assert held.remove_from_l0(page.page_id)
            else:
                held.clear()
            assert memory.session.revision > revision
            assert not held.is_in_l0(page.page_id)
        memory.save(path)
        loaded = MemoryManager.load(path)
        assert loaded.working_set.get_l0_page_ids() == held.get_l0_page_ids()
        assert shown(loaded) == shown(memory)

    with TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder, "a.memory")))


def shown(memory: MemoryManager) -> tuple[object, ...]:
    """The request, who is resident, and where every page is."""
    session = memory.session
    tiers = {page.page_id: session.tier(page) for page in session.mapped_pages()}
    return memory.build_request(QUESTION), memory.working_set.get_l0_page_ids(), tiers, session.turn
