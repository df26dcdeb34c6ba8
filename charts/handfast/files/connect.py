"""What `helm test` runs: makes a Tunnel and a Peer, connects as that client, and moves bytes."""

import base64
import fcntl
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE, PEER = os.environ["NAMESPACE"], "helm-test-client"
NETWORK, GATEWAY = "10.213.0.0/24", "10.213.0.1"
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8916, 0x891C, 1
DEADLINE = time.monotonic() + 120


def call(method, path, body=None, kind="application/json"):
    server = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": kind}
    trust = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    connection = http.client.HTTPSConnection(server, context=trust)
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {content.decode()}")
    return json.loads(content)


def apply(kind, name, spec):
    body = {"apiVersion": "handfast.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    path = f"/apis/handfast.dev/v1alpha1/namespaces/{NAMESPACE}/{kind.lower()}s/{name}"
    call("PATCH", f"{path}?fieldManager=helm-test&force=true", body, "application/apply-patch+yaml")
    return path


def wait_ready(path):
    while True:
        conditions = call("GET", path).get("status", {}).get("conditions", [])
        ready = next((each for each in conditions if each["type"] == "Ready"), None)
        if ready and ready["status"] == "True":
            return
        if time.monotonic() > DEADLINE:
            sys.exit(f"{path} is not ready: {conditions}")
        time.sleep(0.5)


def configure(interface, number, payload):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, number, struct.pack("16s16s8x", interface.encode(), payload))


def internet(address):
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def connect(configuration):
    """A client as `wg-quick` would make it, of IPv4 and of the gateway's network only."""
    address = re.search(r"^Address = ([0-9.]+)", configuration, re.MULTILINE)[1]
    subprocess.Popen(["handfast-tunnel", "--foreground", "--state=none", "wg0"])
    while not Path("/run/wireguard/wg0.sock").exists():
        time.sleep(0.1)
    plain = re.sub(r"^(Address|DNS|MTU)\b.*\n", "", configuration, flags=re.MULTILINE)
    plain = re.sub(r"^AllowedIPs.*$", f"AllowedIPs = {NETWORK}", plain, flags=re.MULTILINE)
    subprocess.run(["wg", "setconf", "wg0", "/dev/stdin"], input=plain, text=True, check=True)
    configure("wg0", SIOCSIFADDR, internet(address))
    configure("wg0", SIOCSIFNETMASK, internet("255.255.255.0"))
    configure("wg0", SIOCSIFFLAGS, struct.pack("H14x", IFF_UP))


tunnel = apply(
    "Tunnel",
    "helm-test",
    {
        "addresses": [f"{GATEWAY}/24"],
        "pools": [{"cidr": NETWORK}],
        "gateway": {"replicas": 1, "exposure": "ClusterIP"},
    },
)
peer = apply("Peer", PEER, {"tunnelRef": {"name": "helm-test"}})
for path in (tunnel, peer):
    wait_ready(path)
secret = call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{PEER}-handfast")
connect(base64.b64decode(secret["data"]["wg0.conf"]).decode())
# The gateway's own metrics, through the tunnel.
connection = http.client.HTTPConnection(GATEWAY, 9586, timeout=20)
connection.request("GET", "/metrics")
print(f"{len(connection.getresponse().read())} bytes came through the tunnel")
