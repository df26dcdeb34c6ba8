"""A key that clients have is never made anew."""

from __future__ import annotations

from typing import Any

from handfast_operator import keys
from handfast_operator.materials import Held, Material, Missing, decide, unread
from handfast_operator.membership import PeerObject
from handfast_tunnel.control import PeerSpec as Line

from .objects import peer_object

PAIR, PSK = keys.generate(), keys.generate_preshared()
OTHER = keys.generate()


def held(rotation: int = 0, **values: str) -> Held:
    return Held({"privateKey": PAIR.private, "presharedKey": PSK} | values, rotation, "uid-of-alice")


def served(rotation: int = 0, **spec: Any) -> PeerObject:
    """A Peer that was given PAIR before."""
    return peer_object("alice", 0, {"publicKey": PAIR.public, "keyRotation": rotation}, **spec)


def decided(
    peer: PeerObject, secret: Held | None, given: str | None = None, wants: bool = True
) -> Material | Missing:
    return decide(peer, secret, given, wants, lambda: OTHER, lambda: "made")


def material(*arguments: Any, **more: Any) -> tuple[str, str | None, str | None]:
    found = decided(*arguments, **more)
    assert isinstance(found, Material)
    return found.public, found.private, found.preshared


def missing(*arguments: Any, **more: Any) -> str:
    found = decided(*arguments, **more)
    assert isinstance(found, Missing)
    return found.reason


def test_a_new_peer_gets_a_pair_and_a_preshared_key() -> None:
    assert material(peer_object("alice"), None) == (OTHER.public, OTHER.private, "made")
    assert material(peer_object("alice"), None, wants=False) == (OTHER.public, OTHER.private, None)


def test_what_was_written_before_a_crash_is_used() -> None:
    assert material(peer_object("alice"), held()) == (PAIR.public, PAIR.private, PSK)


def test_what_it_has_it_keeps() -> None:
    assert material(served(), held()) == (PAIR.public, PAIR.private, PSK)


def test_a_lost_secret_is_told_and_nothing_is_made() -> None:
    assert missing(served(), None) == "KeyMissing"
    assert missing(served(), held(privateKey="")) == "KeyMissing"
    assert missing(served(), held(presharedKey="")) == "KeyMissing"


def test_an_edited_key_is_told() -> None:
    assert missing(served(), held(privateKey=OTHER.private)) == "KeyChanged"


def test_rotation_makes_a_new_key_once() -> None:
    rotated = served(keyRotation=1)
    assert material(rotated, held(rotation=0))[0] == OTHER.public
    # Written, but the status not yet.
    assert material(rotated, held(rotation=1))[0] == PAIR.public
    assert material(served(rotation=1, keyRotation=1), held(rotation=1))[0] == PAIR.public


def test_rotation_brings_back_a_peer_whose_secret_is_lost() -> None:
    assert material(served(keyRotation=1), None)[0] == OTHER.public


def test_an_own_key_needs_no_private_one() -> None:
    own = peer_object("alice", publicKey=PAIR.public)
    assert material(own, None) == (PAIR.public, None, "made")
    again = peer_object("alice", 0, {"publicKey": PAIR.public}, publicKey=PAIR.public)
    assert material(again, held()) == (PAIR.public, None, PSK)
    assert missing(again, None) == "KeyMissing"
    assert material(again, None, wants=False) == (PAIR.public, None, None)


def test_another_own_key_is_a_new_beginning() -> None:
    changed = peer_object("alice", 0, {"publicKey": PAIR.public}, publicKey=OTHER.public)
    assert material(changed, None)[0] == OTHER.public


def test_a_given_preshared_key_comes_first() -> None:
    assert material(served(), held(), given="given")[2] == "given"
    assert material(peer_object("alice"), None, given="given")[2] == "given"


def test_secrets_are_not_read_where_peer_and_configuration_agree() -> None:
    line = Line(PAIR.public, PSK, ("10.8.0.7/32",), None, 0, "alice")
    found = unread(served(), line)
    assert found is not None
    assert (found.public, found.private, found.preshared, found.read) == (PAIR.public, None, PSK, False)
    assert unread(served(keyRotation=1), line) is None
    assert unread(peer_object("alice"), line) is None
    assert unread(served(), None) is None
    assert unread(served(publicKey=OTHER.public), line) is None


def test_private_keys_are_not_shown() -> None:
    assert PAIR.private not in repr(decided(served(), held()))
