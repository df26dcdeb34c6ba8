"""A small internet with servers, their clients of every kind, and restarts of the servers by kill -9.

    servers ---- router ---- clients
                      \\----- clients behind NAT

All clients without NAT share one host and all behind NAT another, which none of them notices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count, product
from typing import Final

from tests.lab.implementations import Implementation, implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import PORT

from .clients import CLIENT_SUBNET, Client, Server, Tunnel
from .commands import (
    QUIET_LOG,
    bound,
    interface_section,
    ip_batch,
    numbered,
    peer_section,
    program_named,
    setconf,
    start_interface,
    uapi_socket,
)
from .probes import Flow, Prober
from .results import Kind, Outage

CLIENT: Final = "wireguard-go"
ASK_AFTER: Final = 1.0
"""Seconds that a quiet client is left alone after a restart that kept its session."""
BESIDES: Final = ("nice", "-n", "10")
"""For 80 clients on the server's machine: elsewhere they would not compete with its start."""
ECHO_PORT: Final = 7007
STREAM_PORT: Final = 7009

_LOSE_FIRST_INITIATIONS: Final = """
define initiation = 0x01000000
table inet lost_{name} {{
    set seen {{ type inet_service; flags dynamic; size 4096; }}
    chain forward {{
        type filter hook forward priority filter - 10
        meta l4proto != udp accept
        @th,64,32 != $initiation accept
        iifname "{name}" udp dport != @seen add @seen {{ udp dport }} drop
        oifname "{name}" udp sport != @seen add @seen {{ udp sport }} drop
    }}
}}
"""
"""The first initiation of each client, in whichever direction; a client is known by its port."""


class Site:
    """A context manager: what was started in it ends with it."""

    def __init__(self, servers: Sequence[str], per_case: int, prober: Prober) -> None:
        self._prober = prober
        self._network = Network()
        try:
            names = [(name, lost) for lost in (False, True) for name in servers]
            hosts = self._network.add(*(f"server{i}" for i in range(len(names))), "clients")
            hosts += self._network.add("natted", nat=True)
        except BaseException:
            self._network.close()
            raise
        self.servers = [
            Server(program_named(name), host, lost)
            for (name, lost), host in zip(names, hosts[:-2], strict=True)
        ]
        self._client_hosts = hosts[-2:]
        numbers = count(1)
        self._clients = [
            Client(kind, host, next(numbers), endpoint)
            for kind, host, endpoint, _ in product(Kind, self._client_hosts, (True, False), range(per_case))
        ]
        self.tunnels = [
            Tunnel(client, server)
            for client, server in product(self._clients, self.servers)
            if server.serves(client)
        ]

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._network.close()

    def connect(self) -> None:
        """Start servers and clients and wait until every tunnel has its session."""
        for server in self.servers:
            # What is sent to the server's subnet is its own, with or without a tunnel.
            server.host.node.run("ip", "route", "add", "local", f"10.{server.subnet}.0.0/16", "dev", "lo")
            server.echo = bound(server.host.node, "0.0.0.0", ECHO_PORT)
            self._prober.add_echo_server(server.echo)
            self._start_server(server, {})
        program = implementation(CLIENT)
        for host in self._client_hosts:
            self._start_clients(program, [client for client in self._clients if client.host is host])
        wait_until(self._connected, 20, "the first handshake of every client", interval=0.2)

    def _start_server(self, server: Server, endpoints: dict[str, str]) -> None:
        peers = [
            peer_section(client.keys.public, client.address, endpoints.get(client.keys.public))
            for client in self._clients
            if server.serves(client)
        ]
        configuration = interface_section(server.keys.private, PORT) + "".join(peers)
        links = [
            f"address add {numbered(server.subnet, 1)}/32 dev wg0",
            "link set wg0 up",
            f"route add 10.{CLIENT_SUBNET}.0.0/16 dev wg0",
        ]
        server.process = start_interface(server.implementation, server.host.node, configuration, links)

    def _start_clients(self, program: Implementation, clients: Sequence[Client]) -> None:
        node = clients[0].host.node
        commands = [" ".join([*BESIDES, *program.command, client.interface, "&"]) for client in clients]
        node.start("sh", "-c", "\n".join([*commands, "wait"]), environment=QUIET_LOG, log="clients")
        for client in clients:
            wait_until(client.listens, 20, f"{client.interface} of {client.host.name} to start")
        node.run("sh", "-e", input="".join(map(self._client_setup, clients)))

    def _client_setup(self, client: Client) -> str:
        tunnels = [tunnel for tunnel in self.tunnels if tunnel.client is client]
        sections = [interface_section(client.keys.private, client.port)]
        sections += [tunnel.client_section() for tunnel in tunnels]
        links = [f"address add {client.address}/32 dev {client.interface}", f"link set {client.interface} up"]
        links += [f"route add {tunnel.server_address}/32 dev {client.interface}" for tunnel in tunnels]
        return setconf(client.interface, "".join(sections)) + ip_batch(links)

    def _connected(self) -> bool:
        self.look()
        return all(tunnel.handshakes for tunnel in self.tunnels)

    def fall_silent(self) -> None:
        """Stop the keepalives of all clients but those whose kind it is."""
        for host in self._client_hosts:
            script = [
                f"wg set {tunnel.client.interface} peer {tunnel.server.keys.public} persistent-keepalive 0\n"
                for tunnel in self.tunnels
                if tunnel.client.host is host and tunnel.client.kind is not Kind.KEEPALIVES
            ]
            host.node.run("sh", "-e", input="".join(script))

    def probe(self, server: Server) -> None:
        """Begin to send through the tunnels of this server, and wait until they all work."""
        tunnels = [tunnel for tunnel in self.tunnels if tunnel.server is server]
        for tunnel in tunnels:
            self._open_probe(tunnel)
        wait_until(lambda: all(tunnel.works for tunnel in tunnels), 20, f"answers to all probes of {server}")

    def _open_probe(self, tunnel: Tunnel) -> None:
        client, server = tunnel.client, tunnel.server
        if client.kind is Kind.SENDING:
            tunnel.flow = self._ask(tunnel)
        elif client.kind is Kind.RECEIVING:
            downlink = bound(server.host.node, tunnel.server_address)
            sink = bound(client.host.node, client.address, STREAM_PORT + server.subnet)
            tunnel.flow = self._prober.add_flow(downlink, sink, sink.getsockname())

    def _ask(self, tunnel: Tunnel) -> Flow:
        """The client sends, and the server's side answers."""
        uplink = bound(tunnel.client.host.node, tunnel.client.address)
        return self._prober.add_flow(uplink, uplink, (tunnel.server_address, ECHO_PORT))

    def restart(self, server: Server) -> None:
        """kill -9, and at once the same server again, with the endpoints that its administrator has."""
        assert server.process
        assert server.echo
        endpoints = self._known_endpoints(server)
        if server.first_lost:
            rules = _LOSE_FIRST_INITIATIONS.format(name=server.host.name)
            self._network.router.run("nft", "-f", "-", input=rules)
        # An answer still owed to a probe would be data for the new server to send, and wake it.
        with self._prober.held:
            server.killed = time.monotonic()
            server.process.kill()
            self._prober.discard(server.echo)
        uapi_socket(server.host.node, "wg0").unlink()
        self._start_server(server, endpoints)

    def _known_endpoints(self, server: Server) -> dict[str, str]:
        """Without NAT from the configuration file; behind NAT as `wg showconf` would have saved them."""
        listing = server.host.node.run("wg", "show", "wg0", "endpoints")
        learned = dict(line.split("\t") for line in listing.splitlines())
        return {
            client.keys.public: learned[client.keys.public]
            if client.host.nat
            else f"{client.host.ipv4}:{client.port}"
            for client in self._clients
            if client.endpoint
        }

    def look(self) -> None:
        """Ask the clients that are not probed for their handshakes, or for a packet where there is none."""
        now = time.monotonic()
        for client in self._clients:
            quiet = [tunnel for tunnel in self.tunnels if tunnel.client is client and not tunnel.flow]
            completed = client.last_handshakes() if quiet else {}
            for tunnel in quiet:
                tunnel.note_handshake(completed.get(tunnel.server.keys.public, 0))
                if tunnel.server.keeps_sessions and now > tunnel.server.killed + ASK_AFTER:
                    tunnel.asked = tunnel.asked or self._ask(tunnel)

    def outages(self, limit: float) -> list[Outage]:
        return [tunnel.outage(limit) for tunnel in self.tunnels]
