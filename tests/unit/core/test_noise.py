from __future__ import annotations

from hashlib import blake2s
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from handfast_tunnel.adapters.data_plane import PacketPlane
from handfast_tunnel.core import noise
from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.messages import (
    Initiation,
    Response,
    pack_initiation,
    pack_response,
    unpack_initiation,
    unpack_response,
)
from handfast_tunnel.core.tai64n import pack_stamp
from tests.unit.planes import planes

from .vectors import standards, wireguard_go

HANDSHAKES = wireguard_go("handshakes")
X25519 = standards("x25519")
MTU = 1420


def private_key(raw: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(raw)


def index(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


class Captured:
    """A handshake of wireguard-go, and both sides of it as this implementation sees them."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.vector = vector
        self.initiator = noise.static_key(vector["initiator_private"])
        self.responder = noise.static_key(vector["responder_private"])
        self.static_static = noise.diffie_hellman(self.initiator.private, self.responder.public)
        self.psk = vector["preshared_key"]
        self.initiation = unpack_initiation(vector["initiation"])
        self.response = unpack_response(vector["response"])

    def consumed(self) -> noise.ResponderState:
        opened = noise.open_initiation(self.responder, self.initiation)
        return noise.finish_initiation(opened, self.initiation, self.static_static)

    def created(self) -> tuple[Initiation, noise.InitiatorState]:
        return noise.create_initiation(
            self.initiator,
            self.responder.public,
            self.static_static,
            index(self.vector["initiator_index"]),
            self.consumed().timestamp,
            private_key(self.vector["initiator_ephemeral"]),
        )

    def answered(self) -> tuple[Response, noise.TransportKeys]:
        return noise.create_response(
            self.consumed(),
            self.psk,
            index(self.vector["responder_index"]),
            self.initiation.sender,
            private_key(self.vector["responder_ephemeral"]),
        )

    def completed(self) -> noise.TransportKeys:
        return noise.consume_response(self.initiator, self.created()[1], self.psk, self.response)


@pytest.fixture(params=HANDSHAKES, ids=[vector["note"] for vector in HANDSHAKES])
def captured(request: pytest.FixtureRequest) -> Captured:
    return Captured(request.param)


def test_responder_reads_what_wireguard_go_initiated(captured: Captured) -> None:
    state = captured.consumed()
    assert state.static == captured.initiator.public
    assert pack_stamp(1_700_000_000 * 10**9) < state.timestamp < pack_stamp(4_000_000_000 * 10**9)


def test_initiation_is_byte_for_byte_that_of_wireguard_go(captured: Captured) -> None:
    message, _ = captured.created()
    mac1_key = noise.mac1_key(captured.responder.public)
    assert add_macs(pack_initiation(message), mac1_key, None) == captured.vector["initiation"]


def test_response_is_byte_for_byte_that_of_wireguard_go(captured: Captured) -> None:
    message, _ = captured.answered()
    mac1_key = noise.mac1_key(captured.initiator.public)
    assert add_macs(pack_response(message), mac1_key, None) == captured.vector["response"]


def test_both_sides_derive_the_same_keys_crosswise(captured: Captured) -> None:
    initiator, responder = captured.completed(), captured.answered()[1]
    assert initiator == noise.TransportKeys(responder.receive, responder.send)


@planes
def test_transport_messages_are_byte_for_byte_those_of_wireguard_go(
    captured: Captured, plane: PacketPlane
) -> None:
    ours = {"initiator": captured.completed(), "responder": captured.answered()[1]}
    receiver = {"initiator": captured.response.sender, "responder": captured.initiation.sender}
    counters = {"initiator": 0, "responder": 0}
    for message in captured.vector["transport"]:
        side = message["from"]
        key = ours[side].send
        sealed = plane.sealer(key).seal_batch(receiver[side], counters[side], [message["packet"]], MTU)
        assert list(sealed) == [message["wire"]]
        (counter,), (plaintext,) = plane.opener(key).open_batch([message["wire"]])
        assert counter == counters[side]
        assert plaintext.startswith(message["packet"])
        counters[side] += 1


@pytest.mark.parametrize("vector", wireguard_go("kdf"))
def test_kdf_is_that_of_wireguard_go(vector: dict[str, Any]) -> None:
    first, second, third = vector["out"]
    assert noise._kdf1(vector["key"], vector["input"]) == first
    assert noise._kdf2(vector["key"], vector["input"]) == (first, second)
    assert noise._kdf3(vector["key"], vector["input"]) == (first, second, third)


@pytest.mark.parametrize("vector", standards("blake2s")["digests"])
def test_blake2s_is_the_specified_one(vector: dict[str, bytes]) -> None:
    assert blake2s(vector["input"], key=vector["key"]).digest() == vector["digest"]


@pytest.mark.parametrize("vector", X25519["products"])
def test_x25519_is_the_specified_one(vector: dict[str, bytes]) -> None:
    assert noise.diffie_hellman(private_key(vector["scalar"]), vector["point"]) == vector["product"]


@pytest.mark.parametrize("vector", X25519["public_keys"])
def test_public_key_belongs_to_private_key(vector: dict[str, bytes]) -> None:
    assert noise.static_key(vector["private"]).public == vector["public"]


def test_private_key_is_clamped_as_wireguard_shows_it() -> None:
    secret = noise.static_key(b"\xff" * 32).secret
    assert secret == b"\xf8" + b"\xff" * 30 + b"\x7f"
    assert noise.static_key(secret).secret == secret


# --- every message that is not exactly right is refused ------------------------------------------

LOW_ORDER = X25519["low_order_points"]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_all_zero_x25519_result_is_refused(point: bytes) -> None:
    with pytest.raises(noise.InvalidMessage, match="low order"):
        noise.diffie_hellman(private_key(b"\x55" * 32), point)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_ephemeral_is_refused_in_every_diffie_hellman(point: bytes) -> None:
    captured = Captured(HANDSHAKES[0])
    with pytest.raises(noise.InvalidMessage):
        noise.open_initiation(captured.responder, captured.initiation._replace(ephemeral=point))
    with pytest.raises(noise.InvalidMessage):
        noise.consume_response(
            captured.initiator,
            captured.created()[1],
            captured.psk,
            captured.response._replace(ephemeral=point),
        )
    ephemeral = private_key(b"\x55" * 32)
    for state in (captured.consumed()._replace(ephemeral=point), captured.consumed()._replace(static=point)):
        with pytest.raises(noise.InvalidMessage):
            noise.create_response(state, captured.psk, 1, 2, ephemeral)
    with pytest.raises(noise.InvalidMessage):
        noise.create_initiation(captured.initiator, point, captured.static_static, 1, bytes(12), ephemeral)


@pytest.mark.parametrize("field", ["ephemeral", "static", "timestamp"])
def test_initiation_with_one_altered_bit_does_not_authenticate(field: str) -> None:
    captured = Captured(HANDSHAKES[0])
    raw = getattr(captured.initiation, field)
    for position in range(len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        message = captured.initiation._replace(**{field: altered})
        with pytest.raises(noise.InvalidMessage):
            noise.finish_initiation(
                noise.open_initiation(captured.responder, message), message, captured.static_static
            )


@pytest.mark.parametrize("field", ["ephemeral", "empty"])
def test_response_with_one_altered_bit_does_not_authenticate(field: str) -> None:
    captured = Captured(HANDSHAKES[1])
    _, state = captured.created()
    raw = getattr(captured.response, field)
    for position in range(len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 0x40]) + raw[position + 1 :]
        with pytest.raises(noise.InvalidMessage):
            noise.consume_response(
                captured.initiator, state, captured.psk, captured.response._replace(**{field: altered})
            )


def test_another_preshared_key_does_not_authenticate() -> None:
    captured = Captured(HANDSHAKES[1])
    with pytest.raises(noise.InvalidMessage):
        noise.consume_response(
            captured.initiator, captured.created()[1], noise.NO_PRESHARED_KEY, captured.response
        )


def test_initiation_to_someone_else_does_not_authenticate() -> None:
    captured = Captured(HANDSHAKES[0])
    with pytest.raises(noise.InvalidMessage):
        noise.open_initiation(noise.static_key(b"\x11" * 32), captured.initiation)


def test_initiation_in_the_name_of_someone_else_does_not_authenticate() -> None:
    """Whoever knows the responder's public key can encrypt any static key: only static-static proves it."""
    captured = Captured(HANDSHAKES[0])
    impostor = noise.static_key(b"\x11" * 32)
    wrong = noise.diffie_hellman(impostor.private, captured.responder.public)
    message, _ = noise.create_initiation(
        captured.initiator, captured.responder.public, wrong, 1, bytes(12), X25519PrivateKey.generate()
    )
    opened = noise.open_initiation(captured.responder, message)
    assert opened.static == captured.initiator.public
    with pytest.raises(noise.InvalidMessage):
        noise.finish_initiation(opened, message, captured.static_static)
