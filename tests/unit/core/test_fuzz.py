"""Whatever reaches the port from a stranger neither raises nor changes anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE

from .stranger import AUTHENTICATED, STRANGER, Scene, state

SCENE = Scene()
scenes = st.sampled_from(range(len(SCENE.messages)))


def test_the_scene_is_alive() -> None:
    """Unaltered, each of its messages would change something."""
    for number in range(len(SCENE.messages)):
        scene = Scene()
        before = state(scene.host), len(scene.network.wire)
        scene.host.deliver([scene.messages[number]], STRANGER)
        assert (state(scene.host), len(scene.network.wire)) != before


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=300)
def test_random_datagrams(datagrams: list[bytes]) -> None:
    SCENE.unimpressed_by(*datagrams)


@given(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_random_datagrams_that_look_like_messages(kind: int, noise: bytes, right_length: bool) -> None:
    length = {1: 148, 2: 92, 3: 64, 4: 64}[kind] if right_length else len(noise) + 4
    datagram = (bytes([kind, 0, 0, 0]) + noise).ljust(length, b"\x5a")[:length]
    SCENE.unimpressed_by(datagram)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_64_kb_of_noise_of_every_type(kind: int) -> None:
    SCENE.unimpressed_by(bytes([kind, 0, 0, 0]) + bytes(range(256)) * 256)


@given(scenes, st.data())
@settings(max_examples=500)
def test_genuine_messages_altered_where_it_matters(number: int, data: st.DataObject) -> None:
    message = bytearray(SCENE.messages[number])
    part = range(len(message))[AUTHENTICATED.get(message[0], slice(4, None))]
    for _ in range(data.draw(st.integers(1, 3))):
        at, change = data.draw(st.sampled_from(part)), data.draw(st.integers(1, 255))
        message[at] = SCENE.messages[number][at] ^ change
    SCENE.unimpressed_by(SCENE.resealed(bytes(message)))


@given(scenes, st.data())
@settings(max_examples=200)
def test_genuine_messages_cut_or_extended(number: int, data: st.DataObject) -> None:
    message = SCENE.messages[number]
    if data.draw(st.booleans()):
        SCENE.unimpressed_by(message[: data.draw(st.integers(0, len(message) - 1))])
    else:
        SCENE.unimpressed_by(message + data.draw(st.binary(min_size=1, max_size=40)))


@given(scenes, scenes, st.integers(1, 150))
def test_genuine_messages_spliced(one: int, other: int, at: int) -> None:
    spliced = SCENE.messages[one][:at] + SCENE.messages[other][at:]
    if spliced not in SCENE.messages and at >= 8 and one != other:
        SCENE.unimpressed_by(SCENE.resealed(spliced) if len(spliced) > 32 else spliced)


@given(scenes, st.sampled_from([1, 2, 3]))
def test_messages_with_reserved_bytes(number: int, at: int) -> None:
    message = bytearray(SCENE.messages[number])
    message[at] = 1
    SCENE.unimpressed_by(bytes(message))


@given(scenes, st.binary(min_size=4, max_size=4))
def test_genuine_messages_for_another_index(number: int, index: bytes) -> None:
    message = SCENE.messages[number]
    if message[0] != TYPE_INITIATION:
        at = 8 if message[0] == TYPE_RESPONSE else 4
        SCENE.unimpressed_by(SCENE.resealed(message[:at] + index + message[at + 4 :]))
