"""Previews of media, beside the text of a lower level: a thumbnail, a film's key frames, a recording's cover.

A model reads the text, which is what the level's line in a prompt is made of; the picture is for whoever shows the page
to people, or to a model that sees. The two are one content: stored, hashed, moved and read together.
"""

from typing import Final, NamedTuple

PREVIEW_BYTES_MAX: Final = 48 * 1024
PREVIEW_MIME_TYPES: Final = ("image/jpeg", "image/png")
LENGTH_BYTES: Final = 4


class Preview(NamedTuple):
    """A picture, and its content type."""

    mime_type: str
    data: bytes


def joined(text: str, preview: Preview | None) -> bytes:
    """The content of a level: its text, or the text's length in four bytes, big-endian, the text, and the preview."""
    encoded = text.encode()
    if preview is None:
        return encoded
    return len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded + preview.data


def parted(content: bytes, preview_mime_type: str) -> tuple[bytes, Preview | None]:
    """The text's bytes and the preview of what `joined` made; the type is empty where there is no preview.

    Raises ValueError when it cannot have been `joined` that made it.
    """
    if not preview_mime_type:
        return content, None
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "big")
    if not LENGTH_BYTES <= end < len(content):
        raise ValueError("it does not begin with the length of a text that a preview follows")
    return content[LENGTH_BYTES:end], Preview(preview_mime_type, content[end:])
