"""The one module that talks to pods: a client for each, with the operator's certificate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from handfast_tunnel.control.client import ControlClient
from handfast_tunnel.control.trust import TlsFiles

from .certificates import Credentials
from .names import CONTROL_PORT

ANSWER_SECONDS: Final = 3.0
"""A pod that takes longer for anything but a whole configuration has something wrong with it."""


class Sidecars:
    """`credentials` gives the operator's leaf and the authority's certificate."""

    def __init__(self, credentials: Callable[[], tuple[Credentials, str]]) -> None:
        self._credentials = credentials
        self._clients: dict[tuple[str, str, str], ControlClient] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._written = ""

    async def at(self, address: str, namespace: str, tunnel: str) -> ControlClient:
        files = await self._files()
        key = address, namespace, tunnel
        if key not in self._clients:
            client = ControlClient(
                address, CONTROL_PORT, files, namespace=namespace, tunnel=tunnel, answer_time=ANSWER_SECONDS
            )
            self._clients[key] = await client.__aenter__()
        return self._clients[key]

    async def forget(self, address: str, namespace: str, tunnel: str) -> None:
        """After a failure, and when a pod is gone: the address may be another's by now."""
        client = self._clients.pop((address, namespace, tunnel), None)
        if client is not None:
            await client.close()

    async def close(self) -> None:
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.close()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def _files(self) -> TlsFiles:
        """The library of certificates reads files only: they lie where nobody else looks, in memory."""
        leaf, authority = self._credentials()
        if self._directory is None:
            # In the operator's pod /tmp is memory.
            self._directory = tempfile.TemporaryDirectory(prefix="handfast-")
        files = TlsFiles.in_directory(Path(self._directory.name))
        if leaf.certificate != self._written:
            for path, text in (
                (files.certificate, leaf.certificate),
                (files.key, leaf.key),
                (files.authority, authority),
            ):
                path.touch(mode=0o600)
                path.write_text(text)
            self._written = leaf.certificate
            # Each makes its context once: new ones take the new leaf.
            for key in list(self._clients):
                await self.forget(*key)
        return files
