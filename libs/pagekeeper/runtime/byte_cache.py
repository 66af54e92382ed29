"""A least-recently-used cache of immutable values, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """A value larger than the whole cache is not kept."""

    def __init__(self, size_bytes: Callable[[V], int], bytes_max: int) -> None:
        self._size_bytes = size_bytes
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        if key in self._values:
            return
        self._values[key] = value
        self._bytes += self._size_bytes(value)
        while self._bytes > self._bytes_max:
            _, forgotten = self._values.popitem(last=False)
            self._bytes -= self._size_bytes(forgotten)
