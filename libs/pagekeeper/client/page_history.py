"""Events of a page's history in words, for people."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor

from pagekeeper.v1 import page_pb2
from pagekeeper.v1.session_pb2 import PageHistoryEntry


def event_text(entry: PageHistoryEntry) -> str:
    """One line: the event's name and its facts, such as `evicted: 41 tokens freed`."""
    event = entry.WhichOneof("event")
    if event is None:
        return "an event that this release does not know"
    facts = _FACTS[event](getattr(entry, event))
    return f"{event.replace('_', ' ')}{f': {facts}' if facts else ''}"


def _mapped(event: PageHistoryEntry.Mapped) -> str:
    origin = event.inherited_from_session_id
    return f"version {event.version}, {f'inherited from session {origin}' if origin else f'{event.size_bytes:,} bytes'}"


def _annotated(event: PageHistoryEntry.Annotated) -> str:
    hint = [f"hint {event.hint!r}"] if event.HasField("hint") else []
    page_type = [f"type {_word(page_pb2.PageType.DESCRIPTOR, event.page_type)}"] if event.page_type else []
    metadata = [f"{key} = {event.metadata[key]!r}" for key in sorted(event.metadata)]
    return ", ".join([*hint, *page_type, *metadata])


def _linked(event: page_pb2.PageLink) -> str:
    return f"{_word(page_pb2.LinkKind.DESCRIPTOR, event.kind)} {event.target_page_id}"


def _represented(event: PageHistoryEntry.Represented) -> str:
    return f"version {event.version}, level {event.level}, {event.size_tokens:,} tokens, by {event.compressor}"


def _placed(event: PageHistoryEntry.Placed) -> str:
    return f"version {event.version}, level {event.level}"


def _admitted(event: PageHistoryEntry.Admitted) -> str:
    reason = event.fault_reason
    fault = f", faulted in: {_word(page_pb2.FaultReason.DESCRIPTOR, reason)}" if reason else ""
    thrash = ", soon after its eviction" if event.thrash else ""
    return f"level {event.level}, {event.size_tokens:,} tokens{fault}{thrash}"


def _compressed(event: PageHistoryEntry.Compressed) -> str:
    return f"level {event.level_before} to {event.level_after}, {event.freed_tokens:,} tokens freed"


def _evicted(event: PageHistoryEntry.Evicted) -> str:
    return f"{event.size_tokens:,} tokens freed"


def _not_admitted(event: PageHistoryEntry.NotAdmitted) -> str:
    return f"{event.size_tokens:,} tokens, room for {event.room_tokens:,}"


def _importance_set(event: PageHistoryEntry.ImportanceSet) -> str:
    return f"{event.importance:g}"


def _restored(event: PageHistoryEntry.Restored) -> str:
    checkpoint = f" (checkpoint {event.checkpoint_id})" if event.checkpoint_id else ""
    page = f"version {event.version}" if event.version else "the page did not exist"
    return f"as at revision {event.revision}{checkpoint}: {page}"


def _nothing(_: object) -> str:
    return ""


_FACTS: Final[Mapping[str, Callable[[Any], str]]] = {
    "mapped": _mapped,
    "annotated": _annotated,
    "linked": _linked,
    "unmapped": _nothing,
    "represented": _represented,
    "placed": _placed,
    "admitted": _admitted,
    "compressed": _compressed,
    "evicted": _evicted,
    "not_admitted": _not_admitted,
    "pinned": _nothing,
    "unpinned": _nothing,
    "importance_set": _importance_set,
    "restored": _restored,
}


def _word(enumeration: EnumDescriptor, number: int) -> str:
    """`LINK_KIND_REFERS_TO` as `refers to`; the digits of a number that this release does not know."""
    known = enumeration.values_by_number.get(number)
    prefix = enumeration.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return known.name.removeprefix(prefix).lower().replace("_", " ") if known else f"{number}"
