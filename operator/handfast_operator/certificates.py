"""Who may call whom: an authority of the operator's own, and a leaf for itself and for each Tunnel.

The role stands in the leaf twice, in its URI and in its extended key usage: a pod's leaf is a server's and
cannot act
as the operator. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LEAF_LIFE: Final = timedelta(days=30)
AUTHORITY_LIFE: Final = timedelta(days=3650)
RENEW_AFTER: Final = LEAF_LIFE / 3
_SKEW: Final = timedelta(minutes=5)
OPERATOR_URI: Final = "handfast://operator"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A certificate and its private key, as PEM."""

    certificate: str
    key: str

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def fits(self) -> bool:
        """Whether both can be read, and belong together."""
        try:
            key = serialization.load_pem_private_key(self.key.encode(), password=None)
            return bool(key.public_key() == self.parsed.public_key())
        except (TypeError, ValueError):
            return False


def tunnel_uri(namespace: str, tunnel: str) -> str:
    return f"handfast://{namespace}/{tunnel}"


def make_authority(now: float, common_name: str = "Handfast control") -> Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, _time(now), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _credentials(certificate, key)


def operator_leaf(authority: Credentials, now: float) -> Credentials:
    return _leaf(authority, [_uri(OPERATOR_URI)], ExtendedKeyUsageOID.CLIENT_AUTH, now)


def tunnel_leaf(authority: Credentials, namespace: str, tunnel: str, now: float) -> Credentials:
    names = [_uri(tunnel_uri(namespace, tunnel))]
    return _leaf(authority, names, ExtendedKeyUsageOID.SERVER_AUTH, now)


def webhook_leaf(authority: Credentials, hosts: Sequence[str], now: float) -> Credentials:
    """For the injector, which the API server asks by a name of its Service."""
    return _leaf(authority, [x509.DNSName(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH, now)


def made_at(certificate: str) -> float:
    begin = x509.load_pem_x509_certificate(certificate.encode()).not_valid_before_utc
    return (begin + _SKEW).timestamp()


def renewal(certificate: str) -> float:
    """When a leaf is to be replaced: after a third of its life."""
    return made_at(certificate) + RENEW_AFTER.total_seconds()


def expiry(certificate: str) -> float:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc.timestamp()


def hosts(certificate: str) -> tuple[str, ...]:
    """By which a server is asked."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(names.get_values_for_type(x509.DNSName))


def each_of(bundle: str) -> list[str]:
    """The certificates in it; none where it cannot be read."""
    try:
        found = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        return []
    return [each.public_bytes(serialization.Encoding.PEM).decode() for each in found]


def issued_by(certificate: str, authority: str) -> bool:
    issuer = x509.load_pem_x509_certificate(authority.encode())
    try:
        x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001  the library raises many kinds, and each of them means no
        return False
    return True


def _uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def _leaf(
    authority: Credentials, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier, now: float
) -> Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key = serialization.load_pem_private_key(authority.key.encode(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    issuer = authority.parsed
    certificate = (
        _builder(x509.Name([]), issuer.subject, key, _time(now), LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return _credentials(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _credentials(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credentials:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC).replace(microsecond=0)
