"""Rendezvous hashing: which replica is a session's home.

Each replica competes with a hash of itself and the session, and the highest wins. Whoever knows the same replicas finds
the same home. A replica that joins takes 1/N of the sessions from the others, and one that leaves hands its own to the
others in equal shares; no other session moves.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def salt_of(name: str) -> bytes:
    """The part of a replica in each hash, computed once."""
    return blake2b(name.encode(), digest_size=32).digest()


def home_of(session: str, among: Iterable[T], salt: Callable[[T], bytes]) -> T:
    """The home of a session, named by any text. `among` has one replica or more."""
    key = session.encode(errors="surrogatepass")
    return max(among, key=lambda replica: blake2b(key, key=salt(replica), digest_size=8).digest())
