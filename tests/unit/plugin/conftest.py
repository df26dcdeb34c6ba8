from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handfast_plugin.__main__ import main
from handfast_plugin.api import Api

from .fake_cluster import FakeCluster, serve, write_kubeconfig

Run = Callable[..., int]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """KUBECONFIG leads to it."""
    cluster = FakeCluster()
    server, thread = serve(cluster)
    monkeypatch.setenv(
        "KUBECONFIG", str(write_kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_port}"))
    )
    monkeypatch.setattr(Api, "exec", cluster.exec)
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run() -> Run:
    """The command, in this process; its exit status."""
    return lambda *arguments: main(arguments)
