"""Who may call whom."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from handfast_operator.certificates import (
    LEAF_LIFE,
    Credentials,
    issued_by,
    make_authority,
    operator_leaf,
    renewal,
    tunnel_leaf,
)
from handfast_tunnel.control import trust

NOW = 1_750_000_000.0
AUTHORITY = make_authority(NOW)


def usages(leaf: Credentials) -> list[x509.ObjectIdentifier]:
    return list(leaf.parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def uris(leaf: Credentials) -> list[str]:
    names = leaf.parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_a_pods_certificate_cannot_act_as_the_operator() -> None:
    leaf = tunnel_leaf(AUTHORITY, "vpn", "office", NOW)
    assert usages(leaf) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert uris(leaf) == [trust.sidecar_uri("vpn", "office")]


def test_the_operators_certificate() -> None:
    leaf = operator_leaf(AUTHORITY, NOW)
    assert usages(leaf) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert uris(leaf) == [trust.OPERATOR_URI]


def test_only_the_authority_makes_leaves() -> None:
    leaf, stranger = operator_leaf(AUTHORITY, NOW), make_authority(NOW)
    assert issued_by(leaf.certificate, AUTHORITY.certificate)
    assert not issued_by(leaf.certificate, stranger.certificate)
    assert not issued_by("", AUTHORITY.certificate)
    assert not leaf.parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_leaf_lives_for_thirty_days_and_is_renewed_after_ten() -> None:
    leaf = operator_leaf(AUTHORITY, NOW)
    assert timedelta(days=30) == LEAF_LIFE
    assert leaf.parsed.not_valid_after_utc.timestamp() == NOW + LEAF_LIFE.total_seconds()
    assert renewal(leaf.certificate) == NOW + timedelta(days=10).total_seconds()


def test_keys_are_not_shown() -> None:
    assert "PRIVATE" not in repr(AUTHORITY)
