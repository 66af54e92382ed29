"""Certificates for servers of this machine, of an authority that exists while they are issued and then is gone.

Invariant: the authority's own key is never written down, so nobody issues a further certificate of it.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pagekeeper.local.ports import HOST
from pagekeeper.runtime.clock import SystemClock

LIFE_DAYS: Final = 3_650
"""Longer than any stack on one machine runs: each start issues anew."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Three files of PEM: a certificate of `HOST`, its key, and the authority that both ends believe."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """The files that `issue` writes into a directory."""
        return cls(directory / "ca.pem", directory / "certificate.pem", directory / "key.pem")

    def client_context(self) -> ssl.SSLContext:
        """For a client that believes the authority, and shows the certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


def issue(directory: Path) -> Certificate:
    """Issue a certificate for servers and clients on `HOST`, in files that only their owner may read."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    issued = Certificate.in_directory(directory)
    authority_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _name("Pagekeeper on this machine")
    root = _draft(authority, authority_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = _draft(_name(HOST), key).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST)), x509.DNSName("localhost")]), critical=False
    )
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = leaf.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    for path, content in (
        (issued.ca, _signed(root, authority, authority_key)),
        (issued.certificate, _signed(leaf, authority, authority_key)),
        (issued.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
    ):
        draft = path.with_name(f"{path.name}.new")
        draft.touch(mode=0o600)
        draft.write_bytes(content)
        draft.replace(path)
    return issued


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _draft(subject: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1_000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=LIFE_DAYS))
    )


def _signed(draft: x509.CertificateBuilder, authority: x509.Name, key: EllipticCurvePrivateKey) -> bytes:
    return draft.issuer_name(authority).sign(key, SHA256()).public_bytes(Encoding.PEM)
