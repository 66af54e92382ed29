"""Iteration in batches that a message can carry or a step may take."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    things: Iterable[T], size_bytes: Callable[[T], int], *, count_max: int, bytes_max: int
) -> Iterator[list[T]]:
    """All of them in order, in as few batches as that allows; a thing that is too large is a batch of its own."""
    batch: list[T] = []
    batch_bytes = 0
    for thing in things:
        thing_bytes = size_bytes(thing)
        if batch and (len(batch) == count_max or batch_bytes + thing_bytes > bytes_max):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(thing)
        batch_bytes += thing_bytes
    if batch:
        yield batch
