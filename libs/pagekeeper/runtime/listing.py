"""Lists in answers: as many entries as were asked for, and as a message has room for.

Entries may carry what callers chose (metadata, labels, names, ids), so a count of them does not bound an answer.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final, TypeVar

from google.protobuf.message import Message

LIST_BYTES_MAX: Final = 4 * 1024 * 1024


M = TypeVar("M", bound=Message)


def fitting(entries: Sequence[M], bytes_max: int = LIST_BYTES_MAX) -> list[M]:
    """The first of the entries, as many as an answer has room for."""
    return list(takewhile(ListRoom(len(entries), bytes_max).takes, entries))


class ListRoom:
    """The room of one list: `entries_max` entries of `bytes_max` bytes together. The first entry always has room."""

    def __init__(self, entries_max: int, bytes_max: int = LIST_BYTES_MAX) -> None:
        self._entries_left = entries_max
        self._bytes_left = bytes_max
        self._is_empty = True

    def takes(self, entry: Message) -> bool:
        """Whether the entry comes into the list; the list ends with the first one that does not."""
        size_bytes = entry.ByteSize()
        if self._entries_left < 1 or (size_bytes > self._bytes_left and not self._is_empty):
            return False
        self._entries_left -= 1
        self._bytes_left -= size_bytes
        self._is_empty = False
        return True
