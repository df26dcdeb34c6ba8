"""Who is who on the control API: certificates of one authority, told apart by a URI and a purpose.

The operator's leaf names `handfast://operator` and is for clients only; a sidecar's names
`handfast://NAMESPACE/TUNNEL` and is for servers only. So a stolen sidecar's certificate cannot act as the
operator, and a sidecar of another tunnel cannot pose as this one's (KUBERNETES, section 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

OPERATOR_URI: Final = "handfast://operator"
CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"
SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"


def sidecar_uri(namespace: str, tunnel: str) -> str:
    return f"handfast://{namespace}/{tunnel}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of a certificate, its key, and the authority that vouches for the other side."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def in_directory(cls, directory: Path) -> TlsFiles:
        """As Kubernetes mounts a Secret of type kubernetes.io/tls, with ca.crt in it."""
        return cls(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")

    def version(self) -> tuple[int, ...]:
        """Another one when the files were replaced."""
        paths = (self.certificate, self.key, self.authority)
        return tuple([number for path in paths for number in _identity(path)])


def _identity(path: Path) -> Iterable[int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a sidecar; raises OSError or ssl.SSLError for files that do not fit."""
    import ssl

    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: TlsFiles, server_uri: str) -> ssl.SSLContext:
    """For the operator: nothing is sent before the other side has proved to be `server_uri`. (A pod's
    address is no name to check: it may be another pod's by now.)"""

    import ssl

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            names = uris(self.getpeercert())
            if names != [server_uri]:
                raise ssl.SSLCertVerificationError(f"the other side is {names}, not {server_uri}")

    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.sslobject_class = Checked
    return context


def uris(certificate: Any) -> list[str]:
    """Of a certificate as `getpeercert` tells it."""
    names = (certificate or {}).get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI"]
