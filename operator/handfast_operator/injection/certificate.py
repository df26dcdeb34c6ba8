"""The injector's certificate: kept by itself in a Secret, or by something else in a folder.

Its own comes from an authority that lies beside it and outlives it by years, so that the API server's trust
(`caBundle`) need not change when the certificate is renewed: nobody is refused meanwhile. Nor is anybody when
the authority is another one: it is trusted before it is used, and the former one until nobody uses that.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from .. import certificates
from ..certificates import Credentials
from ..store import Conflict, Store, secret_values

LOOK_SECONDS: Final = 10.0
"""Between two looks: Secret, folder and what the API server trusts may be changed by hand."""
BOTH_SECONDS: Final = 6 * LOOK_SECONDS
"""For so long a former authority is trusted beside a new one: all injectors have looked by then."""
NEWS_SECONDS: Final = 2.0
"""Until every API server has heard whom to trust."""
WEBHOOKS: Final = "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"


class Certificate(Protocol):
    expiry: float | None
    """Unix seconds; None while there is none."""

    async def look(self, context: ssl.SSLContext) -> float:
        """Loads what is new into `context`, for connections from now on.

        Returns after how many seconds to look again; 0 where nothing is settled yet.
        """


@dataclass(frozen=True, slots=True)
class Kept:
    """What the Secret holds, or is to hold."""

    authority: Credentials
    leaf: Credentials
    fresh: bool
    """It is to be written."""

    def values(self) -> dict[str, str]:
        return {
            "ca.crt": self.authority.certificate,
            "ca.key": self.authority.key,
            "tls.crt": self.leaf.certificate,
            "tls.key": self.leaf.key,
        }


def kept(values: Mapping[str, str], hosts: tuple[str, ...], now: float) -> Kept:
    """From what is there: what is missing, broken or old is made anew."""
    authority = Credentials(values.get("ca.crt", ""), values.get("ca.key", ""))
    if not _lasts(authority, now):
        authority = certificates.make_authority(now, "Handfast injector")
    leaf = Credentials(values.get("tls.crt", ""), values.get("tls.key", ""))
    if (
        _lasts(leaf, now)
        and certificates.issued_by(leaf.certificate, authority.certificate)
        and certificates.renewal(leaf.certificate) > now
        and certificates.hosts(leaf.certificate) == hosts
    ):
        return Kept(authority, leaf, fresh=False)
    return Kept(authority, certificates.webhook_leaf(authority, hosts, now), fresh=True)


def _lasts(credentials: Credentials, now: float) -> bool:
    return credentials.fits() and certificates.expiry(credentials.certificate) > now


class OwnCertificate:
    """For several injectors together: whoever writes first is right."""

    def __init__(self, store: Store, namespace: str, name: str) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._hosts = (f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local")
        self._loaded = ""
        self.expiry: float | None = None

    async def look(self, context: ssl.SSLContext) -> float:
        found = await self._agree(time.time())
        if found is None:
            return 0.0
        authority = found.authority.certificate
        await self._be_trusted(authority)
        if found.leaf.certificate != self._loaded:
            if self._loaded and not certificates.issued_by(self._loaded, authority):
                await asyncio.sleep(NEWS_SECONDS)
            load(context, found.leaf)
            self._loaded = found.leaf.certificate
            self.expiry = certificates.expiry(found.leaf.certificate)
        return LOOK_SECONDS

    async def _agree(self, now: float) -> Kept | None:
        """None where another injector was faster."""
        name = f"{self._name}-tls"
        secret = await self._store.get("v1", "Secret", self._namespace, name)
        if secret is None:
            raise LookupError(f"there is no Secret {name}: the chart makes it, and it may be empty")
        found = kept(secret_values(secret), self._hosts, now)
        if not found.fresh:
            return found
        data = {name: base64.b64encode(text.encode()).decode() for name, text in found.values().items()}
        patch = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}, "data": data}
        try:
            written = await self._store.merge("v1", "Secret", self._namespace, name, patch)
        except Conflict:
            return None
        return found if written is not None else None

    async def _be_trusted(self, authority: str) -> None:
        found = await self._store.get(*WEBHOOKS, None, self._name)
        if found is None:
            raise LookupError(f"there is no MutatingWebhookConfiguration {self._name}: the chart makes it")
        now, webhooks = time.time(), found["webhooks"]
        trusting = [
            {**each, "clientConfig": trusting_config(each["clientConfig"], authority, now)}
            for each in webhooks
        ]
        if trusting == webhooks:
            return
        version = found["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "webhooks": trusting}
        await self._store.merge(*WEBHOOKS, None, self._name, patch)


def trusting_config(client: Mapping[str, Any], authority: str, now: float) -> dict[str, Any]:
    """A webhook's `clientConfig` that trusts an authority, and whatever it did before while that is new."""
    before = base64.b64decode(client.get("caBundle", "")).decode(errors="replace")
    others = [each for each in certificates.each_of(before) if each != authority]
    is_new = now < certificates.made_at(authority) + BOTH_SECONDS
    bundle = "".join([authority, *(others if is_new else [])])
    return {**client, "caBundle": base64.b64encode(bundle.encode()).decode()}


class FolderCertificate:
    """Something else keeps it there, and makes the API server trust it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded = ""
        self.expiry: float | None = None

    async def look(self, context: ssl.SSLContext) -> float:
        certificate = (self._folder / "tls.crt").read_text()
        if certificate != self._loaded:
            load(context, Credentials(certificate, (self._folder / "tls.key").read_text()))
            self._loaded = certificate
            self.expiry = certificates.expiry(certificate)
        return LOOK_SECONDS


def load(context: ssl.SSLContext, leaf: Credentials) -> None:
    """The library reads files only. In the injector's pod /tmp is memory."""
    with tempfile.NamedTemporaryFile("w", prefix="handfast-", suffix=".pem") as file:
        file.write(leaf.key + leaf.certificate)
        file.flush()
        context.load_cert_chain(file.name)
