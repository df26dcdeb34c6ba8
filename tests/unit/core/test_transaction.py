from __future__ import annotations

from handfast_tunnel.core.configuration import InterfaceChange

from .network import Network


def test_the_same_private_key_again_changes_nothing() -> None:
    """`wg syncconf` names the private key every time."""
    network = Network()
    server, client = network.connected_pair()
    session = server.peer(client).current
    server.configure(InterfaceChange(private_key=server.key.secret))
    server.send(client, b"still here")
    network.run(0.1)
    assert server.peer(client).current is session
    assert client.inbox == [b"still here"]
