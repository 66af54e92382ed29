"""The keys that tokens are signed with, read from a file.

A file holds one of three kinds: a secret of at least 32 bytes (HS256); a PEM public key (EdDSA, RS256 or ES256 by its
type); a JWKS whose keys are chosen by `kid`.

Invariant: a key is used with exactly one algorithm, which follows from the key and never from a token. A public key
cannot be passed off as an HMAC secret, and `none` does not exist.

A changed file is read again, so keys can be rotated. Key material is never logged or shown.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError

from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import CannotStart

SECRET_BYTES_MIN: Final = 32
RSA_BITS_MIN: Final = 2_048
LOOK_SECONDS: Final = 1.0
"""How often the file is looked at, so how long a key that was removed from it is still honoured."""

_log: Final = logging.getLogger(__name__)

PublicKey = Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key and the only algorithm that it is used with. `kid` is empty for a file with one nameless key."""

    kid: str
    algorithm: str
    material: bytes | PublicKey = field(repr=False)


class KeyFile:
    """The keys in a file, as they are now.

    A file that cannot be understood is refused at the start. A file that becomes unreadable later leaves the last good
    keys in force, with an error in the logs.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._stamp = self._look()
        self._keys = _read(path)
        self._next_look = clock.monotonic() + LOOK_SECONDS

    def current(self) -> tuple[TokenKey, ...]:
        """Return the keys: the same tuple until the file has changed."""
        if self._clock.monotonic() >= self._next_look:
            self._next_look = self._clock.monotonic() + LOOK_SECONDS
            self._refresh()
        return self._keys

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._keys = _read(self._path)
        except CannotStart as unreadable:
            _log.error("the token keys of before stay in force: %s", unreadable)
        else:
            self._stamp = stamp
            _log.info("token keys read again", extra={"path": str(self._path), "keys": len(self._keys)})

    def _look(self) -> tuple[int, int, int]:
        try:
            seen = self._path.stat()
        except OSError as error:
            raise CannotStart(f"key file {self._path} cannot be read: {error.strerror}") from None
        return seen.st_mtime_ns, seen.st_ino, seen.st_size


def _read(path: Path) -> tuple[TokenKey, ...]:
    try:
        raw = path.read_bytes().strip()
    except OSError as error:
        raise CannotStart(f"key file {path} cannot be read: {error.strerror}") from None
    if raw.startswith(b"-----BEGIN"):
        return (_from_pem(path, raw),)
    if raw.startswith(b"{"):
        return _from_jwks(path, raw)
    return (_secret(path, "", raw),)


def _from_pem(path: Path, raw: bytes) -> TokenKey:
    if b"PRIVATE KEY" in raw:
        raise CannotStart(f"key file {path} holds a private key; the public one is enough to verify tokens")
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise CannotStart(f"key file {path} is not a PEM public key (BEGIN PUBLIC KEY)") from None
    return _public(path, "", key)


def _from_jwks(path: Path, raw: bytes) -> tuple[TokenKey, ...]:
    try:
        document = json.loads(raw)
    except ValueError:
        raise CannotStart(f"key file {path} is not JSON") from None
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise CannotStart(f'key file {path} is not a JWKS: it has no list "keys"')
    # Identity providers publish keys for encryption and of other kinds beside ours.
    keys = tuple(_from_jwk(path, entry) for entry in entries if _is_for_signing(entry))
    if not keys:
        raise CannotStart(f"key file {path} has no key for EdDSA, RS256, ES256 or HS256 signatures")
    names = [key.kid for key in keys]
    if len(set(names)) < len(names) or (len(names) > 1 and "" in names):
        raise CannotStart(f'key file {path} has several keys; each needs a "kid" of its own')
    return keys


_ALGORITHM_OF_KIND: Final = {
    ("OKP", "Ed25519"): "EdDSA",
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("oct", None): "HS256",
}


def _is_for_signing(entry: dict[str, Any]) -> bool:
    algorithm = _ALGORITHM_OF_KIND.get((str(entry.get("kty")), entry.get("crv")))
    return algorithm is not None and entry.get("alg", algorithm) == algorithm and entry.get("use", "sig") == "sig"


def _from_jwk(path: Path, entry: dict[str, Any]) -> TokenKey:
    kid = str(entry.get("kid", ""))
    try:
        material = PyJWK(entry).key
    except PyJWTError:
        raise CannotStart(f"key file {path}: key {kid!r} is malformed") from None
    return _secret(path, kid, material) if isinstance(material, bytes) else _public(path, kid, material)


def _secret(path: Path, kid: str, secret: bytes) -> TokenKey:
    if len(secret) < SECRET_BYTES_MIN:
        raise CannotStart(f"key file {path}: a secret needs {SECRET_BYTES_MIN} bytes or more, it has {len(secret)}")
    return TokenKey(kid, "HS256", secret)


def _public(path: Path, kid: str, key: object) -> TokenKey:
    match key:
        case Ed25519PublicKey():
            return TokenKey(kid, "EdDSA", key)
        case RSAPublicKey() if key.key_size >= RSA_BITS_MIN:
            return TokenKey(kid, "RS256", key)
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return TokenKey(kid, "ES256", key)
        case _:
            raise CannotStart(
                f"key file {path}: a public key must be Ed25519, RSA of {RSA_BITS_MIN} bits or more, or EC P-256"
            )
