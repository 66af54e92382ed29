"""Where bytes lie, as a message and as a value."""

from pagekeeper.core.pages import Extent
from pagekeeper.v1 import page_pb2


def extent_message(extent: Extent) -> page_pb2.Extent:
    """The message of a value."""
    return page_pb2.Extent(object_key=extent.object_key, offset=extent.offset, length=extent.length)


def extent_of(message: page_pb2.Extent) -> Extent:
    """The value of a message."""
    return Extent(message.object_key, message.offset, message.length)
