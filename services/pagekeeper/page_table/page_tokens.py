"""Page tokens of lists: where the next page begins, opaque to whoever carries it.

A token names the list that it belongs to, so one of another list is refused instead of answering something else.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import NoReturn

from pagekeeper.core.errors import InvalidField


def page_token(listed: str, position: str) -> str:
    """The token for what comes after `position` in the list named `listed`."""
    return urlsafe_b64encode(f"{listed}:{position}".encode()).decode().rstrip("=")


def position_in(listed: str, token: str) -> str:
    """The position that `page_token` was given; empty for the beginning. Raises InvalidField."""
    if not token:
        return ""
    try:
        text = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (NotBase64, ValueError):
        _refuse()
    name, colon, position = text.partition(":")
    if not colon or name != listed:
        _refuse()
    return position


def index_in(listed: str, token: str) -> int:
    """As `position_in`, for lists whose positions are numbers; 0 for the beginning. Raises InvalidField."""
    position = position_in(listed, token)
    if not position:
        return 0
    if not (position.isascii() and position.isdigit()) or len(position) > 20:
        _refuse()
    return int(position)


def _refuse() -> NoReturn:
    raise InvalidField("page_token", "must be empty or the next_page_token of the last answer of this list")
