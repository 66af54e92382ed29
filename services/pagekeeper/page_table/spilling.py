"""Which contents travel in the log and which go to the object store first.

A record of the log is limited. Contents that do not fit are durable in the object store before the log names their
place, so a mapping never points at nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.artifacts import ArtifactPort, put
from pagekeeper.runtime.identity import Caller

INLINE_BYTES_MAX: Final = 64 * 1024
"""Of one content. A larger one costs less in the object store than in every fold of the log's tail."""
RECORD_INLINE_BYTES_MAX: Final = 700 * 1024
"""Of all contents of one record, which must leave room for all that is said about them."""


def to_spill(sizes_bytes: Sequence[int]) -> list[int]:
    """Which of these contents of one record go to the object store; the largest first, when together they are many."""
    spilled = {index for index, size in enumerate(sizes_bytes) if size > INLINE_BYTES_MAX}
    inline_bytes = sum(size for index, size in enumerate(sizes_bytes) if index not in spilled)
    if inline_bytes > RECORD_INLINE_BYTES_MAX:
        for index in sorted(range(len(sizes_bytes)), key=lambda i: (-sizes_bytes[i], i)):
            if inline_bytes <= RECORD_INLINE_BYTES_MAX:
                break
            if index not in spilled:
                spilled.add(index)
                inline_bytes -= sizes_bytes[index]
    return sorted(spilled)


async def spill(
    artifacts: ArtifactPort, caller: Caller, key: SessionKey, contents: Sequence[bytes], anyway: Iterable[int] = ()
) -> dict[int, Extent]:
    """Store what cannot travel in the log, and `anyway` these; places by index.

    Raises StoreUnavailable, ContentTooLarge.
    """
    spilled = sorted({*to_spill([len(content) for content in contents]), *anyway})
    if not spilled:
        return {}
    extents = await put(artifacts, caller, key, "pages", [contents[index] for index in spilled])
    return dict(zip(spilled, extents, strict=True))
