"""A bounded map that forgets the least recently used entry first.

Invariant: after every call the map has at most `count_max` entries, and they take at most `bytes_max` bytes or are one:
the entry that was put last is kept however large it is.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, ItemsView, ValuesView
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

NO_LIMIT: Final = 2**63


def _no_bytes(_: object) -> int:
    return 0


def _nobody_told(_: object) -> None:
    pass


class Lru(Generic[K, V]):
    """Entries by key. `size_bytes` is asked for a value's size when the value is put, and not again.

    `on_forgotten` is told the key of each entry that had to give way; not of those that `pop` and `clear` take.
    """

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_entries", "_on_forgotten", "_size_bytes", "_sizes")

    def __init__(
        self,
        *,
        count_max: int = NO_LIMIT,
        bytes_max: int = NO_LIMIT,
        size_bytes: Callable[[V], int] = _no_bytes,
        on_forgotten: Callable[[K], None] = _nobody_told,
    ) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._size_bytes = size_bytes
        self._on_forgotten = on_forgotten
        self._bytes = 0
        self._sizes: dict[K, int] = {}
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value, which is the most recently used one from now on."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def peek(self, key: K) -> V | None:
        """The value, without using it."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, instead of the one that the key had, as the most recently used one."""
        size_bytes = self._size_bytes(value)
        if size_bytes or self._sizes:
            self._bytes += size_bytes - self._sizes.pop(key, 0)
            self._sizes[key] = size_bytes
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._count_max or (self._bytes > self._bytes_max and len(self._entries) > 1):
            forgotten, _ = self._entries.popitem(last=False)
            self._bytes -= self._sizes.pop(forgotten, 0)
            self._on_forgotten(forgotten)

    def pop(self, key: K) -> V | None:
        """Forget a key; its value, None when there is none."""
        self._bytes -= self._sizes.pop(key, 0)
        return self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._sizes.clear()
        self._bytes = 0

    def values(self) -> ValuesView[V]:
        """The least recently used value first."""
        return self._entries.values()

    def items(self) -> ItemsView[K, V]:
        """The least recently used entry first."""
        return self._entries.items()
