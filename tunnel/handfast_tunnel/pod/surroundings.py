"""The network that a configuration asks for around the interface: MTU, addresses, routes, forwarding.

What an app beside it sends to the tunnel's networks never leaves past it: without the interface they are
unreachable.

IPv4 forwarding is set by netlink, which works in an unprivileged container. IPv6 has no such call: where
/proc/sys cannot be written it is as the pod has it, IPv4 is served all the same, and status says so.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from ..adapters import network
from ..adapters.network import Network
from ..adapters.rules import present_rules, set_rules
from ..control.configuration import TunnelSpec
from ..errors import HandfastError
from . import firewall, way_out

log = logging.getLogger(__name__)

DEFAULT_MTU: Final = 1420
WIREGUARD_OVERHEAD: Final = 80
"""IPv6, UDP and WireGuard headers around a packet."""
IPV6_FORWARDING_OFF: Final = "IPv6ForwardingOff"


class SurroundingsError(HandfastError):
    """The kernel refused an address, a route or an MTU."""


class Family(NamedTuple):
    """Whether packets of an address family are forwarded."""

    ready: bool
    reason: str
    """Why not, in one word."""


class Surroundings:
    """What was set up last around one interface."""

    def __init__(self, interface: str, *, beside_app: bool = False) -> None:
        self._interface, self._beside_app = interface, beside_app
        self._firewall: tuple[object, int] | None = None
        self.mtu = DEFAULT_MTU
        self.ipv4 = Family(ready=False, reason="NotConfigured")
        self.ipv6 = Family(ready=False, reason="NotConfigured")

    def set_up(self, spec: TunnelSpec) -> None:
        """Makes it so, touching only what differs; raises SurroundingsError."""
        interface = self._interface
        addresses, routes = [list(map(Network.parse, each)) for each in (spec.addresses, spec.routes)]
        try:
            self.mtu = self._mtu_for(spec)
            network.set_addresses(interface, addresses)
            network.bring_up(interface, self.mtu)
            if self._beside_app:
                network.set_barriers([*routes, *(each.whole for each in addresses)])
            self._lead_out(spec)
            network.set_routes(interface, routes)
        except firewall.FirewallError as error:
            raise SurroundingsError(f"{interface}: a default route needs its marks: {error}") from error
        except OSError as error:
            about = f" {error.filename}" if error.filename else ""
            raise SurroundingsError(
                f"{interface}: the kernel refused its network{about}: {error.strerror}; "
                "does the container have NET_ADMIN, and is IPv6 on where addresses ask for it?"
            ) from error
        self._set_forwarding(spec)

    def _lead_out(self, spec: TunnelSpec) -> None:
        """What a default route needs around it. The rules tell whether a former process has done it."""
        wanted = way_out.rules(spec)
        if wanted == set(present_rules()):
            return
        firewall.install_marking(self._interface, way_out.mark_of(spec))
        network.believe_marks()
        set_rules(wanted)

    def _mtu_for(self, spec: TunnelSpec) -> int:
        if spec.mtu is not None:
            return spec.mtu
        underlay = network.underlay_mtu(self._interface)
        return DEFAULT_MTU if underlay is None else max(576, underlay - WIREGUARD_OVERHEAD)

    def _set_forwarding(self, spec: TunnelSpec) -> None:
        """Never fatal: without it the peers still reach the pod, and each other's handshakes go on."""
        refused = self._install_firewall(spec)
        self.ipv4 = _ipv4(self._interface, spec) if refused is None else refused
        self.ipv6 = _ipv6(spec) if refused is None else refused

    def _install_firewall(self, spec: TunnelSpec) -> Family | None:
        wanted = (spec.forwarding, self.mtu)
        if self._firewall == wanted or not (spec.forwarding.ipv4 or spec.forwarding.ipv6):
            return None
        try:
            firewall.install(self._interface, spec.forwarding, self.mtu)
        except firewall.FirewallError as error:
            log.warning("%s: nothing is forwarded for its peers as asked for: %s", self._interface, error)
            return Family(ready=False, reason="FirewallRefused")
        self._firewall = wanted
        return None


def _ipv4(interface: str, spec: TunnelSpec) -> Family:
    if not spec.forwarding.ipv4:
        return Family(ready=False, reason="Off")
    try:
        network.allow_ipv4_forwarding()
    except OSError as error:
        log.warning("%s: IPv4 forwarding cannot be switched on: %s", interface, error.strerror)
    if network.forwards_ipv4([interface]):
        return Family(ready=True, reason="")
    return Family(ready=False, reason="IPv4ForwardingOff")


def _ipv6(spec: TunnelSpec) -> Family:
    if not spec.forwarding.ipv6:
        return Family(ready=False, reason="Off")
    if not network.forwards_ipv6():
        try:
            network.allow_ipv6_forwarding()
        except OSError as error:
            log.info("IPv6 forwarding is off in this pod and cannot be switched on: %s", error.strerror)
            return Family(ready=False, reason=IPV6_FORWARDING_OFF)
    return Family(ready=True, reason="")
