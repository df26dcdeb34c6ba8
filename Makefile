# ARGS goes to the program behind the target: make test ARGS="tests/unit -k cookies"
ARGS =
# CLUSTER=1: make demo shows a rollout on a real Kubernetes.
CLUSTER =
# What a cluster is made of; empty means the default.
export NAME NODES PROXY ADDRESS COUNT MINUTES
PYTHON = .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak fuzz clean cluster cluster-down cluster-status cluster-logs cluster-client \
	cluster-dashboard generate

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## kill a server with real clients on it: their outages, beside wireguard-go; CLUSTER=1: a rollout
	@scripts/setup $(if $(CLUSTER),cluster,interop)
	@$(PYTHON) -m bench.$(if $(CLUSTER),cluster.)demo $(ARGS)

test: ## run all tests
	@scripts/setup cluster
	@$(PYTHON) -m tests.cluster images
	@$(PYTHON) -m pytest $(ARGS)

lint: ## check style, format and types
	@scripts/setup dev
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@scripts/lint-native

bench: ## measure restarts, throughput, handshakes and 10,000 peers; ARGS=cluster: every event of a cluster
	@scripts/setup $(if $(filter cluster dashboard operator,$(firstword $(ARGS))),cluster,interop)
	@$(PYTHON) -m bench $(ARGS)

soak: ## live 100,000 histories of crashes and restarts (docs/soak.md), fuzz an hour, 20 lives of a cluster, and 50 faults in one
	@scripts/setup soak
	@PYTHONPATH=tunnel:. $(PYTHON) -m tests.soak $(ARGS)
	@PYTHONPATH=tunnel:operator:. $(PYTHON) -m tests.fuzz --hour --keep
	@PYTHONPATH=tunnel:operator:. $(PYTHON) -m tests.soak.valgrind
	@$(PYTHON) -m tests.cluster soak
	@$(PYTHON) -m pytest -n0 -msoak

fuzz: ## look for bytes that break a parser, a minute for each
	@scripts/setup fuzz
	@PYTHONPATH=tunnel:operator:. $(PYTHON) -m tests.fuzz $(ARGS)

cluster: ## make a real Kubernetes in namespaces; NODES=1|2 PROXY=iptables|nftables NAME=handfast
	@scripts/setup cluster
	@$(PYTHON) -m tests.cluster up

cluster-down: ## remove it again
cluster-status: ## show its machines, nodes and pods
cluster-logs: ## show the ends of its logs, and its events
cluster-client: ## ping ADDRESS from outside, COUNT times, as the client whose wg0.conf comes in
cluster-down cluster-status cluster-logs cluster-client: cluster-%:
	@scripts/setup dev
	@$(PYTHON) -m tests.cluster $*

cluster-dashboard: ## a Prometheus beside it, and the dashboard Recovery as dashboard.png, for MINUTES
	@scripts/setup cluster
	@$(PYTHON) -m bench.dashboard.watch

generate: ## make CRDs, reference, dashboards and renders of the chart anew
	@scripts/setup cluster
	@$(PYTHON) -m dashboards
	@PYTHONPATH=tunnel:operator $(PYTHON) -m handfast_operator.resources.generate
	@$(PYTHON) -m tests.cluster.renders

clean: ## remove what was made in this checkout; the cache of built programs stays
	rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
