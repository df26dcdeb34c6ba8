from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core import messages
from handfast_tunnel.core.messages import CookieReply, Initiation, Response, message_type

from .vectors import wireguard_go

index = st.integers(0, 2**32 - 1)


def raw(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(st.builds(Initiation, index, raw(32), raw(48), raw(28)))
def test_initiation_unpacks_to_what_was_packed(message: Initiation) -> None:
    datagram = messages.pack_initiation(message) + bytes(32)
    assert messages.unpack_initiation(datagram) == message
    assert message_type(datagram) == messages.TYPE_INITIATION
    assert messages.sender_index(datagram) == message.sender


@given(st.builds(Response, index, index, raw(32), raw(16)))
def test_response_unpacks_to_what_was_packed(message: Response) -> None:
    datagram = messages.pack_response(message) + bytes(32)
    assert messages.unpack_response(datagram) == message
    assert message_type(datagram) == messages.TYPE_RESPONSE
    assert messages.sender_index(datagram) == message.sender
    assert messages.receiver_index(datagram) == message.receiver


@given(st.builds(CookieReply, index, raw(24), raw(32)))
def test_cookie_reply_unpacks_to_what_was_packed(message: CookieReply) -> None:
    datagram = messages.pack_cookie_reply(message)
    assert messages.unpack_cookie_reply(datagram) == message
    assert message_type(datagram) == messages.TYPE_COOKIE_REPLY
    assert messages.receiver_index(datagram) == message.receiver


def test_lengths_are_the_papers() -> None:
    assert messages.INITIATION_LENGTH == 148
    assert messages.RESPONSE_LENGTH == 92
    assert messages.COOKIE_REPLY_LENGTH == 64
    assert messages.TRANSPORT_MIN_LENGTH == 32


def test_layout_is_that_of_wireguard_go() -> None:
    vector = wireguard_go("handshakes")[0]
    initiation, response = vector["initiation"], vector["response"]
    assert messages.pack_initiation(messages.unpack_initiation(initiation)) == initiation[:-32]
    assert messages.pack_response(messages.unpack_response(response)) == response[:-32]
    assert messages.receiver_index(response) == messages.sender_index(initiation)


@pytest.mark.parametrize(("kind", "length"), [(1, 148), (2, 92), (3, 64)])
def test_handshake_message_has_exactly_its_length(kind: int, length: int) -> None:
    head = bytes([kind, 0, 0, 0])
    assert message_type(head.ljust(length, b"x")) == kind
    assert message_type(head.ljust(length - 1, b"x")) is None
    assert message_type(head.ljust(length + 1, b"x")) is None


def test_transport_message_has_at_least_header_and_tag() -> None:
    head = bytes([4, 0, 0, 0])
    assert message_type(head.ljust(32, b"x")) == messages.TYPE_TRANSPORT
    assert message_type(head.ljust(9000, b"x")) == messages.TYPE_TRANSPORT
    assert message_type(head.ljust(31, b"x")) is None


@pytest.mark.parametrize("position", [1, 2, 3])
@pytest.mark.parametrize(("kind", "length"), [(1, 148), (2, 92), (3, 64), (4, 32)])
def test_type_is_le32_so_reserved_bytes_are_zero(kind: int, length: int, position: int) -> None:
    datagram = bytearray([kind, 0, 0, 0]).ljust(length, b"x")
    datagram[position] = 1
    assert message_type(bytes(datagram)) is None


@given(st.binary(max_size=200))
def test_type_of_anything_is_none_or_has_its_length(datagram: bytes) -> None:
    kind = message_type(datagram)
    assert kind is None or len(datagram) >= 32
