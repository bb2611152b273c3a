"""TLS for connections to Kafka, with files that may be renewed while the process runs."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from niyama.logs import Throttle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Whom a connection trusts, and who it says it is."""

    ca: Path | None
    """None: the authorities of the system."""
    certificate: Path | None
    """This client's own, for mutual TLS."""
    key: Path | None
    """None: in the file of the certificate."""
    key_password: str

    def load_authorities(self, context: ssl.SSLContext) -> None:
        """Raises OSError."""
        if self.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self.ca)

    def load_certificate(self, context: ssl.SSLContext) -> None:
        """Raises OSError."""
        if self.certificate is not None:
            # The password is never None: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(self.certificate, self.key, self.key_password)

    def version(self) -> tuple[tuple[int, int] | None, ...]:
        """Another one once a file is replaced or rewritten."""
        return tuple(_version(path) for path in (self.ca, self.certificate, self.key))


def _version(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found else None


class RenewingContext(ssl.SSLContext):
    """Loads files that were renewed before the next connection, also of clients that live long.

    An authority that a file no longer names is trusted until the process ends.
    """

    def __new__(cls, _files: TlsFiles) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, files: TlsFiles) -> None:
        """Nothing is loaded yet."""
        self._files = files
        self._loaded = files.version()
        self._notices = Throttle()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As event loops do for every connection that they open."""
        self._renew()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def _renew(self) -> None:
        version = self._files.version()
        if version == self._loaded:
            return
        try:
            # Tried elsewhere first: a certificate without its key would replace the one in use.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self):
                self._files.load_authorities(context)
                self._files.load_certificate(context)
        except OSError as error:
            self._notices.warning(
                log, "the renewed certificate cannot be used yet, the last one is: %r", error
            )
            return
        self._loaded = version
        log.info("renewed certificates are loaded")
