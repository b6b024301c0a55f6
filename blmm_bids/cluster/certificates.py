"""Certificates of one run: whoever reaches a port of its scheduler or workers needs them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed.security import Security

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE_FILES = ("ca.pem", "certificate.pem", "key.pem")
_PRIVATE_FILE = 0o600


@dataclass(frozen=True)
class Certificates:
    """The files that processes of a run show each other.

    Attributes
    ----------
    ca_file, cert, key : Path
        PEM; certificate and authority are one, made for this run.
    """

    ca_file: Path
    cert: Path
    key: Path

    @property
    def security(self) -> Security:
        """What dask takes, for every role."""
        ca_file, cert, key = str(self.ca_file), str(self.cert), str(self.key)
        return Security(
            require_encryption=True,
            tls_ca_file=ca_file,
            tls_client_cert=cert,
            tls_client_key=key,
            tls_scheduler_cert=cert,
            tls_scheduler_key=key,
            tls_worker_cert=cert,
            tls_worker_key=key,
        )

    @property
    def options(self) -> list[str]:
        """What dask's worker command takes."""
        named = (("--tls-ca-file", self.ca_file), ("--tls-cert", self.cert), ("--tls-key", self.key))
        return [word for option, path in named for word in (option, str(path))]


def write_certificates(directory: Path) -> Certificates:
    """Make new certificates, readable by nobody else.

    Parameters
    ----------
    directory : Path
        Existing, mode 0700, on a file system that workers see.

    Raises
    ------
    OSError
        Not writable.
    """
    made = Security.temporary()
    files = Certificates(*(directory / name for name in CERTIFICATE_FILES))
    contents = (made.tls_ca_file, made.tls_client_cert, made.tls_client_key)
    for path, content in zip((files.ca_file, files.cert, files.key), contents, strict=True):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(content)
    return files
