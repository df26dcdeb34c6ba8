from __future__ import annotations

from handfast_tunnel.core.xchacha import open_, seal

from .vectors import standards

VECTOR = standards("xchacha20poly1305")
ARGUMENTS = (VECTOR["key"], VECTOR["nonce"])


def test_seals_as_specified() -> None:
    assert seal(*ARGUMENTS, VECTOR["plaintext"], VECTOR["additional"]) == VECTOR["ciphertext"]


def test_opens_as_specified() -> None:
    assert open_(*ARGUMENTS, VECTOR["ciphertext"], VECTOR["additional"]) == VECTOR["plaintext"]


def test_forgery_opens_to_none() -> None:
    ciphertext = VECTOR["ciphertext"]
    for position in range(len(ciphertext)):
        forged = ciphertext[:position] + bytes([ciphertext[position] ^ 1]) + ciphertext[position + 1 :]
        assert open_(*ARGUMENTS, forged, VECTOR["additional"]) is None
    assert open_(*ARGUMENTS, ciphertext, b"other") is None
