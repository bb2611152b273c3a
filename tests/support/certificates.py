"""Certificates made for a test, by openssl's command line."""

import subprocess
from pathlib import Path

from niyama.local.ports import LOOPBACK


class Certificates:
    """An authority of the test's own, and what it signs. Keys are EC: quick to make."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._ca_key = folder / "ca.key"
        self._openssl(
            *("req", "-x509", "-subj", "/CN=test authority", *_new_key(), "-nodes"),
            *("-keyout", self._ca_key, "-out", self.ca),
        )

    def make(self, name: str, *, password: str | None = None) -> tuple[Path, Path]:
        """Certificate and key, for the subject `CN=name` and for this machine's address."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        encryption = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        self._openssl(
            *("req", "-x509", "-subj", f"/CN={name}", *_new_key(), *encryption),
            *("-CA", self.ca, "-CAkey", self._ca_key, "-keyout", key, "-out", certificate),
            *("-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return certificate, key

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _new_key() -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
