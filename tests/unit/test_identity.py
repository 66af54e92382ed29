"""Only a token that is signed by a trusted key, for this audience, now, makes anybody a tenant's caller."""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from pagekeeper.core.errors import (
    InvalidField,
    PagekeeperError,
    TokenAudience,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from pagekeeper.core.ids import TenantId
from pagekeeper.runtime.bearer_tokens import (
    INTERNAL_RENEWAL_SECONDS,
    INTERNAL_TTL_SECONDS,
    LEEWAY_SECONDS,
    TOKEN_LENGTH_MAX,
    InternalTokens,
    TokenVerifier,
    mint_development_token,
)
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.identity import Caller, Identity
from pagekeeper.runtime.token_keys import LOOK_SECONDS, KeyFile
from tests.fakes.manual_clock import ManualClock

SECRET = b"a secret that nobody else in this test knows, long enough for HS512"
OTHER_SECRET = b"another secret, that is not trusted anywhere"
AUDIENCE = "pagekeeper"

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

PRIVATE_KEYS: dict[str, PrivateKey] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
}


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: PrivateKey, **members: str) -> dict[str, Any]:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        entry = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, rsa.RSAPrivateKey):
        entry = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        entry = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**entry, **members}


def secret_jwk(secret: bytes, kid: str) -> dict[str, Any]:
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode().rstrip("="), "kid": kid}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(SECRET + b"\n")
    return path


@pytest.fixture
def verifier(key_path: Path, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(KeyFile(key_path, clock), AUDIENCE, clock)


def claims(clock: ManualClock, **changes: object) -> dict[str, Any]:
    """What a good token says, with `changes`; None leaves a claim out."""
    now = clock.now_ms() // 1_000
    good = {"tenant": "acme", "sub": "alice", "aud": AUDIENCE, "scope": "read write", "iat": now, "exp": now + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def bearer(
    said: dict[str, Any],
    key: PrivateKey | bytes = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
) -> str:
    return f"Bearer {jwt.encode(said, key, algorithm, headers)}"


def unsigned(said: dict[str, Any], **header: str) -> str:
    parts = [{"typ": "JWT", **header}, said]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return "Bearer " + ".".join([*encoded, ""])


def hs256_with_public_key(said: dict[str, Any], pem: bytes) -> str:
    """The classic forgery: a public key, which everybody has, used as an HMAC secret. PyJWT refuses to make one."""
    header_and_said = unsigned(said, alg="HS256").removeprefix("Bearer ").rstrip(".")
    signature = hmac.new(pem, header_and_said.encode(), hashlib.sha256).digest()
    return f"Bearer {header_and_said}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_a_good_token_says_who_calls(verifier: TokenVerifier, clock: ManualClock) -> None:
    who = verifier.verify(bearer(claims(clock)))
    assert who == Identity(TenantId("acme"), "alice")


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_public_key_verifies_its_own_algorithm(algorithm: str, tmp_path: Path, clock: ManualClock) -> None:
    private = PRIVATE_KEYS[algorithm]
    (tmp_path / "key.pem").write_bytes(public_pem(private))
    verifier = TokenVerifier(KeyFile(tmp_path / "key.pem", clock), AUDIENCE, clock)
    assert verifier.verify(bearer(claims(clock), private, algorithm)).tenant == "acme"
    # Not another key of the same kind, not another algorithm with the same key, not the public key as a secret.
    forgeries = [bearer(claims(clock), key, name) for name, key in PRIVATE_KEYS.items() if name != algorithm]
    forgeries += [hs256_with_public_key(claims(clock), public_pem(private))]
    forgeries += [hs256_with_public_key(claims(clock), public_pem(private).strip())]
    if algorithm == "RS256":
        forgeries += [bearer(claims(clock), private, name) for name in ("RS512", "PS256")]
    for forgery in forgeries:
        with pytest.raises(TokenInvalid):
            verifier.verify(forgery)


Forgery = Callable[[ManualClock], str | None]
FORGERIES: dict[str, tuple[Forgery, type[PagekeeperError]]] = {
    "no header": (lambda _: None, TokenMissing),
    "another scheme": (lambda _: "Basic YWxpY2U6c2VjcmV0", TokenMissing),
    "empty": (lambda _: "Bearer ", TokenInvalid),
    "no token": (lambda _: "Bearer none", TokenInvalid),
    "too long": (lambda _: "Bearer " + "a" * (TOKEN_LENGTH_MAX + 1), TokenInvalid),
    "foreign key": (lambda clock: bearer(claims(clock), OTHER_SECRET), TokenInvalid),
    "other algorithm, same key": (lambda clock: bearer(claims(clock), SECRET, "HS512"), TokenInvalid),
    "unsigned": (lambda clock: unsigned(claims(clock), alg="none"), TokenInvalid),
    "unsigned, shouted": (lambda clock: unsigned(claims(clock), alg="NONE"), TokenInvalid),
    "no algorithm": (lambda clock: unsigned(claims(clock)), TokenInvalid),
    "signature cut off": (lambda clock: bearer(claims(clock)).rpartition(".")[0] + ".", TokenInvalid),
    "critical extension": (lambda clock: bearer(claims(clock), headers={"crit": ["x"], "x": 1}), TokenInvalid),
    "another audience": (lambda clock: bearer(claims(clock, aud="elsewhere")), TokenAudience),
    "internal audience": (lambda clock: bearer(claims(clock, aud="pagekeeper-internal")), TokenAudience),
    "no audience": (lambda clock: bearer(claims(clock, aud=None)), TokenInvalid),
    "expired": (lambda clock: bearer(claims(clock, exp=clock.now_ms() // 1_000 - LEEWAY_SECONDS)), TokenExpired),
    "no expiry": (lambda clock: bearer(claims(clock, exp=None)), TokenInvalid),
    "expiry as text": (lambda clock: bearer(claims(clock, exp="tomorrow")), TokenInvalid),
    "expiry true": (lambda clock: bearer(claims(clock, exp=True)), TokenInvalid),
    "expiry not a number": (lambda clock: bearer(claims(clock, exp=float("nan"))), TokenInvalid),
    "expiry never": (lambda clock: bearer(claims(clock, exp=float("inf"))), TokenInvalid),
    "expiry beyond time": (lambda clock: bearer(claims(clock, exp=10**400)), TokenInvalid),
    "not yet": (lambda clock: bearer(claims(clock, nbf=clock.now_ms() // 1_000 + LEEWAY_SECONDS + 1)), TokenInvalid),
    "no tenant": (lambda clock: bearer(claims(clock, tenant=None)), TokenInvalid),
    "tenant is a wildcard": (lambda clock: bearer(claims(clock, tenant="*")), TokenInvalid),
    "tenant climbs": (lambda clock: bearer(claims(clock, tenant="../acme")), TokenInvalid),
    "tenant is two tokens": (lambda clock: bearer(claims(clock, tenant="acme.evil")), TokenInvalid),
    "tenant ends a line": (lambda clock: bearer(claims(clock, tenant="acme\n")), TokenInvalid),
    "tenant is a list": (lambda clock: bearer(claims(clock, tenant=["acme"])), TokenInvalid),
    "no subject": (lambda clock: bearer(claims(clock, sub=None)), TokenInvalid),
    "empty subject": (lambda clock: bearer(claims(clock, sub="")), TokenInvalid),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_anything_else_is_refused(name: str, verifier: TokenVerifier, clock: ManualClock) -> None:
    forge, kind = FORGERIES[name]
    authorization = forge(clock)
    # Also the second time, and the refusal does not repeat the token.
    for _ in range(2):
        with pytest.raises(PagekeeperError) as refusal:
            verifier.verify(authorization)
        assert type(refusal.value) is kind
        assert authorization is None or authorization not in str(refusal.value)


def test_clocks_may_differ_a_little(verifier: TokenVerifier, clock: ManualClock) -> None:
    now = clock.now_ms() // 1_000
    said = claims(clock, nbf=now + LEEWAY_SECONDS, exp=now - LEEWAY_SECONDS + 1)
    assert verifier.verify(bearer(said)).tenant == "acme"


def test_a_remembered_token_expires_like_any_other(verifier: TokenVerifier, clock: ManualClock) -> None:
    authorization = bearer(claims(clock))
    assert verifier.verify(authorization) is verifier.verify(authorization)
    clock.advance(60 + LEEWAY_SECONDS - 0.001)
    verifier.verify(authorization)
    clock.advance(0.001)
    with pytest.raises(TokenExpired):
        verifier.verify(authorization)


def test_a_key_is_chosen_by_its_name(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "jwks.json"
    keys = [jwk(key, kid=algorithm) for algorithm, key in PRIVATE_KEYS.items()]
    encryption = jwk(PRIVATE_KEYS["RS256"], kid="enc", use="enc")
    path.write_text(json.dumps({"keys": [*keys, encryption, {"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq"}]}))
    verifier = TokenVerifier(KeyFile(path, clock), AUDIENCE, clock)
    for algorithm, key in PRIVATE_KEYS.items():
        token = bearer(claims(clock), key, algorithm, {"kid": algorithm})
        assert verifier.verify(token).tenant == "acme"
        # Its own key under another key's name, under no name, and under a name that nobody has.
        others = [name for name in PRIVATE_KEYS if name != algorithm]
        for headers in [{"kid": name} for name in [*others, "enc", "unknown"]] + [None]:
            with pytest.raises(TokenInvalid):
                verifier.verify(bearer(claims(clock), key, algorithm, headers))


def test_keys_are_rotated_by_changing_the_file(key_path: Path, verifier: TokenVerifier, clock: ManualClock) -> None:
    old, new = bearer(claims(clock)), bearer(claims(clock), OTHER_SECRET)
    verifier.verify(old)
    key_path.write_bytes(OTHER_SECRET)
    clock.advance(LOOK_SECONDS)
    # The old key's tokens are forgotten, remembered ones too.
    with pytest.raises(TokenInvalid):
        verifier.verify(old)
    assert verifier.verify(new).tenant == "acme"


@pytest.mark.parametrize("content", [b"", b"short", b"{", None])
def test_a_file_that_breaks_later_leaves_its_keys_in_force(
    content: bytes | None, key_path: Path, verifier: TokenVerifier, clock: ManualClock
) -> None:
    if content is None:
        key_path.unlink()
    else:
        key_path.write_bytes(content)
    clock.advance(LOOK_SECONDS)
    assert verifier.verify(bearer(claims(clock))).tenant == "acme"
    with pytest.raises(TokenInvalid):
        verifier.verify(bearer(claims(clock), OTHER_SECRET))
    # And a file that is whole again is read.
    key_path.write_bytes(OTHER_SECRET)
    os.utime(key_path, (1, 1))
    clock.advance(LOOK_SECONDS)
    assert verifier.verify(bearer(claims(clock), OTHER_SECRET)).tenant == "acme"


def private_pem() -> bytes:
    return PRIVATE_KEYS["RS256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"\n", "32 bytes or more, it has 0"),
    "short secret": (lambda: b"secret", "32 bytes or more, it has 6"),
    "private key": (private_pem, "private key"),
    "broken PEM": (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a PEM public key"),
    "short RSA key": (lambda: public_pem(rsa.generate_private_key(65_537, 1_024)), "RSA of 2048 bits or more"),  # noqa: S505
    "unusual curve": (lambda: public_pem(ec.generate_private_key(ec.SECP384R1())), "EC P-256"),
    "not JSON": (lambda: b"{", "not JSON"),
    "not a JWKS": (lambda: b"{}", 'no list "keys"'),
    "no key for us": (lambda: b'{"keys": []}', "no key for EdDSA"),
    "nameless keys": (lambda: jwks(jwk(PRIVATE_KEYS["EdDSA"]), jwk(PRIVATE_KEYS["ES256"])), '"kid" of its own'),
    "one name twice": (lambda: jwks(secret_jwk(SECRET, "a"), secret_jwk(OTHER_SECRET, "a")), '"kid" of its own'),
    "malformed key": (lambda: b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "?"}]}', "malformed"),
    "private JWK": (
        lambda: jwks(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)),
        "a public key must be",
    ),
}


def jwks(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_process_does_not_start_with_a_bad_key_file(name: str, tmp_path: Path, clock: ManualClock) -> None:
    content, said = BAD_FILES[name]
    path = tmp_path / "key"
    path.write_bytes(content())
    with pytest.raises(CannotStart, match=said) as refusal:
        KeyFile(path, clock)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_process_does_not_start_without_its_key_file(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(CannotStart, match="No such file"):
        KeyFile(tmp_path / "key", clock)


def test_key_material_is_never_shown(key_path: Path, clock: ManualClock) -> None:
    (key,) = KeyFile(key_path, clock).current()
    assert SECRET.decode() not in repr(key)
    assert "material" not in repr(key)


ALICE = Caller(TenantId("acme"), "alice", deadline=None, trace="t1")


def test_a_service_knows_for_whom_it_is_called(key_path: Path, clock: ManualClock) -> None:
    tokens = InternalTokens(KeyFile(key_path, clock), clock)
    who = tokens.verifier().verify(tokens.authorization(ALICE))
    assert (who.tenant, who.subject) == (ALICE.tenant, ALICE.subject)


def test_the_two_audiences_are_not_interchangeable(key_path: Path, verifier: TokenVerifier, clock: ManualClock) -> None:
    """Even when one machine uses one secret for both."""
    tokens = InternalTokens(KeyFile(key_path, clock), clock)
    with pytest.raises(TokenAudience):
        verifier.verify(tokens.authorization(ALICE))
    with pytest.raises(TokenAudience):
        tokens.verifier().verify(bearer(claims(clock)))


def test_an_internal_token_is_replaced_before_it_expires(key_path: Path, clock: ManualClock) -> None:
    tokens = InternalTokens(KeyFile(key_path, clock), clock)
    verifier = tokens.verifier()
    first = tokens.authorization(ALICE)
    clock.advance(INTERNAL_TTL_SECONDS - INTERNAL_RENEWAL_SECONDS - 1)
    assert tokens.authorization(ALICE) == first
    clock.advance(1)
    second = tokens.authorization(ALICE)
    assert second != first
    for authorization in (first, second):
        verifier.verify(authorization)


def test_tokens_of_different_callers_are_different(key_path: Path, clock: ManualClock) -> None:
    tokens = InternalTokens(KeyFile(key_path, clock), clock)
    callers = [
        ALICE,
        Caller(TenantId("acme"), "bob", None, "t1"),
        Caller(TenantId("evil"), "alice", None, "t1"),
    ]
    assert len({tokens.authorization(caller) for caller in callers}) == len(callers)


def test_internal_secrets_are_rotated_without_a_gap(key_path: Path, clock: ManualClock) -> None:
    """Add the new secret behind the old one; when everybody has it, put it first; then take the old one away."""
    old, new = secret_jwk(SECRET, "old"), secret_jwk(OTHER_SECRET, "new")
    key_path.write_bytes(jwks(old))
    tokens = InternalTokens(KeyFile(key_path, clock), clock)
    verifier = TokenVerifier(KeyFile(key_path, clock), "pagekeeper-internal", clock)
    for step in ([old, new], [new, old], [new]):
        before = tokens.authorization(ALICE)
        verifier.verify(before)
        key_path.write_bytes(jwks(*step))
        os.utime(key_path, (len(step), len(step)))
        clock.advance(LOOK_SECONDS)
        verifier.verify(tokens.authorization(ALICE))
    with pytest.raises(TokenInvalid):
        verifier.verify(bearer(claims(clock, aud="pagekeeper-internal"), headers={"kid": "old"}))


def test_nobody_signs_with_a_public_key(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "key.pem").write_bytes(public_pem(PRIVATE_KEYS["EdDSA"]))
    key_file = KeyFile(tmp_path / "key.pem", clock)
    with pytest.raises(CannotStart):
        InternalTokens(key_file, clock)
    with pytest.raises(CannotStart):
        mint_development_token(key_file, clock, "acme", "developer", AUDIENCE)


def test_a_development_token_is_a_token(key_path: Path, verifier: TokenVerifier, clock: ManualClock) -> None:
    key_file = KeyFile(key_path, clock)
    token = mint_development_token(key_file, clock, "acme", "developer", AUDIENCE)
    assert verifier.verify(f"bearer {token}") == Identity(TenantId("acme"), "developer")
    with pytest.raises(InvalidField):
        mint_development_token(key_file, clock, "a.b", "developer", AUDIENCE)
