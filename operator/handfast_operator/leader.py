"""The operator's process: what its workers share, and their beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kopf
from kubernetes.aio import client

from . import belongings, certificates
from .belongings import AUTHORITY_SECRET
from .certificates import Credentials
from .conditions import timestamp
from .measured import Measured
from .membership import PeerObject
from .settings import Settings
from .sidecars import Sidecars
from .store import Conflict, Failure, Object, Store, secret_values
from .tunnel_state import PodObject, TunnelObject
from .worker import Key, Worker

LOGIN_SECONDS: Final = 600
"""The service account's token is another one after an hour at the latest."""
TOGETHER_SECONDS: Final = 1.0
"""The deletion of a node's other pods is seen by then."""
FINISH_SECONDS: Final = 8.0
"""What is not handed over by then is the next operator's."""

logger = logging.getLogger(__name__)


class OperatorAuthority:
    """The operator's own certificates; the leaf is never written anywhere."""

    def __init__(self, credentials: Credentials, now: float) -> None:
        self.credentials = credentials
        self._leaf = certificates.operator_leaf(credentials, now)

    def expiries(self) -> dict[str, float]:
        """When its certificates end, by what they are."""
        return {
            "authority": certificates.expiry(self.credentials.certificate),
            "operator": certificates.expiry(self._leaf.certificate),
        }

    def leaf(self, now: float) -> Credentials:
        if certificates.renewal(self._leaf.certificate) <= now:
            self._leaf = certificates.operator_leaf(self.credentials, now)
        return self._leaf


class Operator:
    def __init__(self, settings: Settings, store: Store, configuration: client.Configuration) -> None:
        self.settings = settings
        self.store = store
        self.measured = Measured()
        self.transitions = 0
        """Of the Lease; 0 while somebody else leads."""
        self.heard_at = time.monotonic()
        self.workers: dict[Key, Worker] = {}
        self._configuration = configuration
        self._tunnels: Mapping[Key, Any] = {}
        self._peers: Mapping[Key, Any] = {}
        self._pods: Mapping[Key, Any] = {}
        self._authority: OperatorAuthority | None = None
        self.sidecars = Sidecars(self._operator_leaf)

    # What workers ask

    @property
    def authority(self) -> OperatorAuthority:
        assert self._authority is not None
        return self._authority

    def tunnel(self, key: Key) -> TunnelObject | None:
        return next(iter(self._tunnels.get(key, ())), None)

    def peers(self, key: Key) -> list[PeerObject]:
        return list(self._peers.get(key, ()))

    def pods(self, key: Key) -> list[PodObject]:
        return list(self._pods.get(key, ()))

    def waiting(self) -> int:
        """Of the Tunnels, those that something has changed for since they were last looked at."""
        return sum(worker.waiting for worker in self.workers.values())

    def generations(self) -> dict[tuple[str, ...], float]:
        return {key: worker.generation for key, worker in self.workers.items() if worker.generation}

    def conditions(self) -> dict[tuple[str, ...], float]:
        """By namespace, Tunnel and type; those that are neither True nor False are left out."""
        return {
            (*key, name): holds
            for key, worker in self.workers.items()
            for name, holds in worker.conditions.items()
        }

    def certificate_expiries(self) -> dict[tuple[str, ...], float]:
        """The first one of each kind, in Unix seconds."""
        pods = [expiry for worker in self.workers.values() if (expiry := worker.certificate_expiry)]
        own = self._authority.expiries() if self._authority is not None else {}
        found = own | ({"pods": min(pods)} if pods else {})
        return {(kind,): expiry for kind, expiry in found.items()}

    def lease_term(self) -> int:
        return self.transitions

    async def announce(self, subject: Object, type: str, reason: str, message: str) -> None:
        namespace, name, now = subject["namespace"], subject["name"], timestamp(time.time())
        logger.info("%s %s/%s: %s", subject["kind"], namespace, name, message)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name}.", "namespace": namespace},
            "involvedObject": subject,
            "type": type,
            "reason": reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "handfast-operator"},
            "reportingComponent": "handfast-operator",
            "reportingInstance": self.settings.identity,
        }
        try:
            await self.store.create(event)
        except (Failure, OSError) as failure:
            logger.warning("An event could not be written: %s", failure)

    # Beginning and end

    async def prepare(self) -> None:
        """The authority, made once by whoever leads first."""
        self._authority = OperatorAuthority(await self._authority_credentials(), time.time())
        await belongings.claim(self.store, self.settings)

    async def _authority_credentials(self) -> Credentials:
        namespace = self.settings.namespace
        for _ in range(2):
            secret = await self.store.get("v1", "Secret", namespace, AUTHORITY_SECRET)
            if secret is not None:
                values = secret_values(secret)
                return Credentials(values["tls.crt"], values["tls.key"])
            made = certificates.make_authority(time.time())
            with contextlib.suppress(Conflict):
                await self.store.create(
                    {
                        "apiVersion": "v1",
                        "kind": "Secret",
                        "metadata": {"name": AUTHORITY_SECRET, "namespace": namespace},
                        "stringData": {"tls.crt": made.certificate, "tls.key": made.key},
                    }
                )
                return made
        raise RuntimeError(f"Secret {AUTHORITY_SECRET} can neither be read nor made")

    def begin(self, tunnels: Mapping[Key, Any], peers: Mapping[Key, Any], pods: Mapping[Key, Any]) -> None:
        self._tunnels, self._peers, self._pods = tunnels, peers, pods

    async def finish(self) -> None:
        """Hand over whatever ends together with this operator: both may be on a node that is drained.

        The next operator would come too late: a pod that hears nothing of us for two seconds waits no longer.
        """
        began = time.monotonic()
        await asyncio.sleep(TOGETHER_SECONDS)
        while time.monotonic() - began < FINISH_SECONDS and self._pending():  # noqa: ASYNC110  seen by asking
            await asyncio.sleep(0.1)

    def _pending(self) -> bool:
        return any(worker.pending for worker in self.workers.values())

    async def end(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers.values()))
        await self.sidecars.close()

    def worker(self, key: Key) -> Worker:
        if key not in self.workers:
            self.workers[key] = worker = Worker(self, key)
            worker.start()
        return self.workers[key]

    async def connection(self) -> kopf.ConnectionInfo:
        """What kopf watches with: the same credentials as the store's."""
        found = self._configuration
        header = await found.get_api_key_with_prefix("BearerToken")
        scheme, _, token = (header or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            expiration=datetime.now(UTC) + timedelta(seconds=LOGIN_SECONDS) if token else None,
        )

    def _operator_leaf(self) -> tuple[Credentials, str]:
        return self.authority.leaf(time.time()), self.authority.credentials.certificate
