"""A laboratory for WireGuard: hosts, a router and real implementations, in namespaces that need no root.

from tests.lab.network import Network        hosts around a router, filters and captures
from tests.lab.implementations import ...    the programs under test
from tests.lab.peer import Peer, introduce   configured interfaces on the hosts
from tests.lab.restarts import ...           ways to end a tunnel's processes
from tests.lab.probes import Probes          what users notice
from tests.lab.adversary import Flood        what nobody asked for
"""
