"""A real Kubernetes in namespaces of its own: control plane, nodes, outside clients, a cloud's balancer.

python -m tests.cluster up                  what `make cluster` runs
from tests.cluster.cluster import Cluster   the same for tests: up, down, nodes and their failures
from tests.cluster.api import Api           apply, wait, exec and logs, on the official client
from tests.cluster.outside import Outside   clients that reach a cluster from somewhere else
from tests.cluster.cloud import Balancer    what a cloud does for a Service of type LoadBalancer
"""
