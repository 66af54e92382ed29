"""TLS of servers and of calls, from files in PEM that may be replaced while they are in use.

A server looks at its files at each handshake, so the next connection gets the certificate that lies there now. A half
of a pair that is replaced does not fit the other half: the last pair that fits stays in force, and the logs say so.
Key material is never logged or shown.
"""

import logging
import ssl
from pathlib import Path
from typing import Final

import grpc

from pagekeeper.runtime.errors import CannotStart

_log: Final = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
"""When files were written, which they are, and how long."""


class ServerTls:
    """A server's certificate, with the chain up to its authority, and the key of the certificate."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises CannotStart when the files cannot be read, or are no pair."""
        self._certificate = certificate
        self._key = key
        self._stamp = _stamp(certificate, key)
        self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Of a port: what gRPC asks this object for at each handshake."""
        return grpc.dynamic_ssl_server_credentials(self._configuration, self._current)

    def _current(self) -> grpc.ServerCertificateConfiguration:
        try:
            stamp = _stamp(self._certificate, self._key)
            if stamp != self._stamp:
                self._stamp, self._configuration = stamp, self._read()
                _log.info("the certificate is read again", extra={"path": str(self._certificate)})
        except CannotStart as unreadable:
            _log.error("the certificate of before stays in force: %s", unreadable)
        return self._configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            pair = self._key.read_bytes(), self._certificate.read_bytes()
        except (OSError, ssl.SSLError) as error:
            problem = error.strerror or error
            raise CannotStart(
                f"{self._certificate} and {self._key} are no certificate and its key: {problem}"
            ) from None
        return grpc.ssl_server_certificate_configuration([pair])


class Trust:
    """The authorities whose certificates a caller believes; calls without any are made without TLS."""

    def __init__(self, ca: Path | None) -> None:
        """Raises CannotStart when the file holds no certificate."""
        self._ca = ca
        self._stamp = self._look()
        self._read()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Of a channel, from the file as it is now; None without TLS. Raises CannotStart."""
        self._stamp = self._look()
        certificates = self._read()
        return None if certificates is None else grpc.ssl_channel_credentials(certificates)

    def has_changed(self) -> bool:
        """Tell whether the file holds other authorities than when credentials were made last, and all can be read."""
        try:
            changed = self._look() != self._stamp
            if changed:
                self._read()
        except CannotStart as unreadable:
            _log.error("the authorities of before stay in force: %s", unreadable)
            return False
        return changed

    def _look(self) -> Stamp:
        return () if self._ca is None else _stamp(self._ca)

    def _read(self) -> bytes | None:
        if self._ca is None:
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self._ca)
            return self._ca.read_bytes()
        except (OSError, ssl.SSLError) as error:
            raise CannotStart(f"{self._ca} holds no certificates of authorities: {error.strerror or error}") from None


def _stamp(*paths: Path) -> Stamp:
    try:
        seen = [path.stat() for path in paths]
    except OSError as error:
        raise CannotStart(f"{error.filename} cannot be read: {error.strerror}") from None
    return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in seen)
