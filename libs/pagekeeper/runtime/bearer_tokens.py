"""Bearer tokens: minted for services, verified into an `Identity`.

Two audiences are never interchangeable. Callers come to the gateway with tokens for PUBLIC_AUDIENCE. The gateway and
the workers call services with tokens for INTERNAL_AUDIENCE, which they mint themselves for INTERNAL_TTL_SECONDS.
"""

from operator import attrgetter
from typing import Any, Final, NamedTuple

import jwt

from pagekeeper.core.errors import InvalidField, TokenAudience, TokenExpired, TokenInvalid, TokenMissing
from pagekeeper.core.ids import TenantId, check_tenant
from pagekeeper.core.lru import Lru
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.identity import Caller, Identity
from pagekeeper.runtime.token_keys import KeyFile, TokenKey

PUBLIC_AUDIENCE: Final = "pagekeeper"
INTERNAL_AUDIENCE: Final = "pagekeeper-internal"
TENANT_CLAIM: Final = "tenant"
LEEWAY_SECONDS: Final = 30
"""How far the clock of whoever signed a token may be from ours."""
INTERNAL_TTL_SECONDS: Final = 300
INTERNAL_RENEWAL_SECONDS: Final = 60
"""An internal token is replaced when it has less than this left."""
DEVELOPMENT_TTL_SECONDS: Final = 30 * 24 * 3_600
TOKEN_LENGTH_MAX: Final = 8_192
SUBJECT_LENGTH_MAX: Final = 256
REMEMBERED_TOKENS_MAX: Final = 10_000
REMEMBERED_BYTES_MAX: Final = 16 * 1024 * 1024
ENTRY_BYTES: Final = 1_024
"""What a remembered token takes beside its characters, rounded up."""
_LATEST_SECONDS: Final = 1 << 53  # beyond it a claim is not a time
_SCHEME: Final = "bearer "


class _Good(NamedTuple):
    """A token that was found good: whose it is, until when, and the memory that it takes here."""

    identity: Identity
    until_ms: int
    size_bytes: int


class TokenVerifier:
    """Checks bearer tokens for one audience.

    A token that was found good is remembered until it expires or the keys change, because checking a signature costs as
    much as a small call.
    """

    def __init__(self, key_file: KeyFile, audience: str, clock: Clock) -> None:
        self._key_file = key_file
        self._audience = audience
        self._clock = clock
        self._keys = key_file.current()
        self._good: Lru[str, _Good] = Lru(
            count_max=REMEMBERED_TOKENS_MAX, bytes_max=REMEMBERED_BYTES_MAX, size_bytes=attrgetter("size_bytes")
        )

    def verify(self, authorization: str | None) -> Identity:
        """Return who sent the header `authorization`.

        Raises TokenMissing, TokenInvalid, TokenExpired or TokenAudience. The messages say nothing of the token.
        """
        if authorization is None:
            raise TokenMissing("the call carries no token; send `authorization: Bearer <token>`")
        keys = self._key_file.current()
        if keys is not self._keys:
            self._keys = keys
            self._good.clear()
        good = self._good.get(authorization)
        if good is not None and self._clock.now_ms() < good.until_ms:
            return good.identity
        return self._check(authorization)

    def _check(self, authorization: str) -> Identity:
        self._good.pop(authorization)
        if not authorization[: len(_SCHEME)].lower() == _SCHEME:
            raise TokenMissing("the authorization is not a bearer token; send `authorization: Bearer <token>`")
        token = authorization[len(_SCHEME) :]
        if len(token) > TOKEN_LENGTH_MAX:
            raise TokenInvalid(f"the token is longer than {TOKEN_LENGTH_MAX:,} characters")
        claims = self._claims(token)
        good_until_ms = self._check_life(claims)
        identity = _identity(claims)
        self._good.put(authorization, _Good(identity, good_until_ms, len(authorization) + ENTRY_BYTES))
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._key_for(jwt.get_unverified_header(token))
            return jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=self._audience,
                # Times are checked against our clock, by `_check_life`.
                options={"require": ["aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidAudienceError:
            raise TokenAudience(f"the token is for another audience than {self._audience!r}") from None
        except jwt.PyJWTError:
            raise TokenInvalid("the token is malformed, or not signed by a key that is trusted here") from None

    def _key_for(self, header: dict[str, Any]) -> TokenKey:
        """Choose by `kid`. A single key needs no name, and a nameless key answers to every name."""
        kid = header.get("kid")
        if len(self._keys) == 1 and (kid is None or not self._keys[0].kid):
            return self._keys[0]
        for key in self._keys:
            if key.kid == kid:
                return key
        raise TokenInvalid("the token is signed by a key that is not known here")

    def _check_life(self, claims: dict[str, Any]) -> int:
        """Return until when the token is good, in milliseconds of `Clock.now_ms`."""
        now_ms = self._clock.now_ms()
        if "nbf" in claims and now_ms < _time_ms(claims, "nbf") - LEEWAY_SECONDS * 1_000:
            raise TokenInvalid("the token is not valid yet")
        good_until_ms = _time_ms(claims, "exp") + LEEWAY_SECONDS * 1_000
        if now_ms >= good_until_ms:
            raise TokenExpired("the token has expired")
        return good_until_ms


def _time_ms(claims: dict[str, Any], claim: str) -> int:
    seconds = claims.get(claim)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LATEST_SECONDS:
        raise TokenInvalid(f"the token's {claim!r} is not a time in seconds")
    return int(seconds * 1_000)


def _identity(claims: dict[str, Any]) -> Identity:
    tenant, subject = claims.get(TENANT_CLAIM), claims.get("sub")
    if not isinstance(tenant, str):
        raise TokenInvalid(f"the token has no {TENANT_CLAIM!r}")
    try:
        check_tenant(TENANT_CLAIM, tenant)
    except InvalidField as error:
        raise TokenInvalid(f"the token's {error.message}") from None
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH_MAX:
        raise TokenInvalid(f"the token's 'sub' is not a text of 1 to {SUBJECT_LENGTH_MAX} characters")
    return Identity(TenantId(tenant), subject)


class InternalTokens:
    """Mints the tokens that services are called with, from the secret that all of them share.

    With a JWKS of secrets the first one signs and any of them verifies, so they can be rotated without a gap.
    """

    def __init__(self, key_file: KeyFile, clock: Clock) -> None:
        if any(key.algorithm != "HS256" for key in key_file.current()):
            raise CannotStart("the internal key must be a secret, not a public key: services sign with it too")
        self._key_file = key_file
        self._clock = clock
        self._keys = key_file.current()
        self._minted: Lru[tuple[str, str], tuple[str, int]] = Lru(count_max=REMEMBERED_TOKENS_MAX)

    def authorization(self, caller: Caller) -> str:
        """Return the `authorization` header with which to act for `caller`."""
        keys = self._key_file.current()
        if keys is not self._keys:
            self._keys = keys
            self._minted.clear()
        now_ms = self._clock.now_ms()
        who = (caller.tenant, caller.subject)
        minted = self._minted.get(who)
        if minted is not None and now_ms < minted[1]:
            return minted[0]
        return self._mint(who, now_ms)

    def verifier(self) -> TokenVerifier:
        """Make the verifier of what is minted here."""
        return TokenVerifier(self._key_file, INTERNAL_AUDIENCE, self._clock)

    def _mint(self, who: tuple[str, str], now_ms: int) -> str:
        tenant, subject = who
        claims = {TENANT_CLAIM: tenant, "sub": subject, "aud": INTERNAL_AUDIENCE}
        authorization = f"Bearer {_sign(self._keys[0], claims, now_ms, INTERNAL_TTL_SECONDS)}"
        self._minted.put(who, (authorization, now_ms + (INTERNAL_TTL_SECONDS - INTERNAL_RENEWAL_SECONDS) * 1_000))
        return authorization


def mint_development_token(key_file: KeyFile, clock: Clock, tenant: str, subject: str, audience: str) -> str:
    """Return a token, without the word Bearer, for one machine's use. Raises InvalidField for a malformed tenant.

    The file must hold a secret: who holds a public key only cannot sign.
    """
    key = key_file.current()[0]
    if key.algorithm != "HS256":
        raise CannotStart("development tokens are signed with a secret; PK_TOKEN_KEY names a public key")
    claims = {TENANT_CLAIM: check_tenant(TENANT_CLAIM, tenant), "sub": subject, "aud": audience}
    return _sign(key, claims, clock.now_ms(), DEVELOPMENT_TTL_SECONDS)


def _sign(key: TokenKey, claims: dict[str, str], now_ms: int, ttl_seconds: int) -> str:
    issued = now_ms // 1_000
    assert isinstance(key.material, bytes)
    headers = {"kid": key.kid} if key.kid else None
    return jwt.encode({**claims, "iat": issued, "exp": issued + ttl_seconds}, key.material, "HS256", headers)
