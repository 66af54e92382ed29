"""Pages to append, by what they are."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pagekeeper.client.requests import made
from pagekeeper.core.wellformed import write_json
from pagekeeper.v1 import page_pb2


def user(text: str, *, page_id: str = "", speaker: str = "", said_at: datetime | None = None) -> page_pb2.PageInput:
    """A message of a user; it begins a turn.

    The page's line in a prompt shows the name of the `speaker`, of whom a conversation may have several, and when the
    message was said: to the minute, in UTC. Raises ValueError for a time without a zone.
    """
    return _message(page_pb2.MESSAGE_ROLE_USER, text, page_id, speaker, said_at)


def assistant(
    text: str, *, page_id: str = "", speaker: str = "", said_at: datetime | None = None
) -> page_pb2.PageInput:
    """A message of the model. Its line shows the speaker and the time as a user's does. Raises ValueError."""
    return _message(page_pb2.MESSAGE_ROLE_ASSISTANT, text, page_id, speaker, said_at)


def system(text: str, *, page_id: str = "") -> page_pb2.PageInput:
    """Instructions of the application; never evicted when they are said before the first turn."""
    return made(page_pb2.PageInput, page_id=page_id, role=page_pb2.MESSAGE_ROLE_SYSTEM, text=text)


def tool_result(text: str, *, tool_name: str = "", tool_call_id: str = "", page_id: str = "") -> page_pb2.PageInput:
    """What a tool answered, which may be nothing; its line shows the tool's name and the call."""
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_TOOL,
        text=text,
        tool_name=tool_name,
        tool_call_id=tool_call_id,
    )


def structured(value: object, *, page_id: str = "") -> page_pb2.PageInput:
    """JSON, kept as JSON. Raises InvalidField for a value that JSON cannot hold; see `pagekeeper.core.wellformed`."""
    text = write_json(value, "value")
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_TOOL,
        modality=page_pb2.MODALITY_STRUCTURED,
        text=text,
    )


def claim(
    text: str, *, derived_from: Sequence[str] = (), importance: float = 0.9, page_id: str = ""
) -> page_pb2.PageInput:
    """A decision, a fact or a plan, and the pages that it was made from."""
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_ASSISTANT,
        page_type=page_pb2.PAGE_TYPE_CLAIM,
        text=text,
        importance=importance,
        links=[
            made(page_pb2.PageLink, kind=page_pb2.LINK_KIND_DERIVED_FROM, target_page_id=target)
            for target in derived_from
        ],
    )


def procedure(text: str, *, page_id: str = "") -> page_pb2.PageInput:
    """A learned way of doing something."""
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_ASSISTANT,
        page_type=page_pb2.PAGE_TYPE_PROCEDURE,
        text=text,
    )


def artifact(text: str, *, metadata: Mapping[str, str] | None = None, page_id: str = "") -> page_pb2.PageInput:
    """Something a tool made."""
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_TOOL,
        page_type=page_pb2.PAGE_TYPE_ARTIFACT,
        text=text,
        metadata=metadata or {},
    )


def image(
    data: bytes, *, caption: str, width: int, height: int, mime_type: str, page_id: str = ""
) -> page_pb2.PageInput:
    """A picture: the model sees its caption and size in pixels, `read` gives its bytes."""
    return made(
        page_pb2.PageInput,
        page_id=page_id,
        role=page_pb2.MESSAGE_ROLE_USER,
        modality=page_pb2.MODALITY_IMAGE,
        data=data,
        mime_type=mime_type,
        media=made(page_pb2.MediaDescription, caption=caption, width=width, height=height),
    )


def _message(
    role: "page_pb2.MessageRole.ValueType", text: str, page_id: str, speaker: str, said_at: datetime | None
) -> page_pb2.PageInput:
    said_unix_ms = _unix_ms(said_at)
    return made(page_pb2.PageInput, page_id=page_id, role=role, text=text, speaker=speaker, said_unix_ms=said_unix_ms)


def _unix_ms(moment: datetime | None) -> int:
    """Milliseconds since 1970; 0 for no time. Raises ValueError for a time without a zone, which may mean any."""
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise ValueError(f"said_at must have a time zone, such as datetime.now(UTC), not {moment!r}")
    return int(moment.timestamp() * 1000)
