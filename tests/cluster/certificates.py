"""A certificate authority for one cluster, and the kubeconfigs that are made of its certificates."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=365)


class Authority:
    """Keeps its files in one folder; certificates are made once and stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("handfast-cluster")
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        own = _builder(self._name, self._name, self._key.public_key()).add_extension(
            constraints, critical=True
        )
        self._write("ca", self._key, own.sign(self._key, SHA256()))

    def issue(self, file: str, user: str, groups: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        """A certificate for `user` in `groups`, which serves under `names`; as FILE.crt and FILE.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(user, *groups), self._name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if alternatives := [_alternative(name) for name in names]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self._write(file, key, builder.sign(self._key, SHA256()))

    def key_pair(self, file: str) -> None:
        """A key without a certificate; as FILE.key and FILE.pub."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._write(file, key)
        (self.folder / f"{file}.pub").write_bytes(public)

    def _write(
        self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate | None = None
    ) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.folder / f"{file}.key"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        if certificate:
            (self.folder / f"{file}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))

    def kubeconfig(self, file: str, server: str) -> str:
        """What a client needs that has the certificate `file`. JSON, which is YAML too."""

        def data(name: str) -> str:
            return b64encode((self.folder / name).read_bytes()).decode()

        user = {"client-certificate-data": data(f"{file}.crt"), "client-key-data": data(f"{file}.key")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "cluster",
                    "cluster": {"server": server, "certificate-authority-data": data("ca.crt")},
                }
            ],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": file}}],
            "current-context": "cluster",
        }
        return json.dumps(content, indent=1)


def _name(user: str, *groups: str) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    # Tests may turn clocks back a little.
    now = datetime.now(UTC) - timedelta(hours=2)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return (
        builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + _LIFE)
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
