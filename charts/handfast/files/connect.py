"""What `helm test` runs: makes a Tunnel and a Peer, connects as that client, and moves bytes."""

import base64
import fcntl
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
NAMESPACE, PEER = os.environ["NAMESPACE"], "helm-test-client"
NETWORK, GATEWAY = "10.213.0.0/24", "10.213.0.1"
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8916, 0x891C, 1
DEADLINE = time.monotonic() + 120


def call(method, path, body=None, kind="application/json"):
    with open(f"{ACCOUNT}/token") as token:
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": kind}
    url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")) as answer:
        return json.load(answer)


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
    while not os.path.exists("/run/wireguard/wg0.sock"):
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
with urllib.request.urlopen(f"http://{GATEWAY}:9586/metrics", timeout=20) as answer:
    print(f"{len(answer.read())} bytes came through the tunnel")
