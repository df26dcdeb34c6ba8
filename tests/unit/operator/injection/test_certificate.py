"""The injector's certificate: agreed on by several, renewed without anybody's refusal."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any, cast

import pytest

from handfast_operator import certificates
from handfast_operator.injection import certificate
from handfast_operator.injection.certificate import FolderCertificate, OwnCertificate, kept
from handfast_operator.store import secret_values

from ..fake_store import FakeStore

NOW = 1_750_000_000.0
HOSTS = ("handfast-injector.handfast-system.svc", "handfast-injector.handfast-system.svc.cluster.local")
WEBHOOK = ("MutatingWebhookConfiguration", "handfast-injector")


def store(**client_config: str) -> FakeStore:
    made = FakeStore()
    made.objects["Secret", "handfast-injector-tls"] = {"metadata": {"resourceVersion": "0"}}
    made.objects[WEBHOOK] = {
        "metadata": {"name": "handfast-injector", "resourceVersion": "1"},
        "webhooks": [{"name": "pods.handfast.dev", "clientConfig": {"service": {}, **client_config}}],
    }
    return made


def injector(store: FakeStore) -> OwnCertificate:
    return OwnCertificate(cast(Any, store), "handfast-system", "handfast-injector")


def look(own: OwnCertificate | FolderCertificate, context: ssl.SSLContext | None = None) -> float:
    return asyncio.run(own.look(context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))


def trusted(store: FakeStore) -> str:
    (webhook,) = store.objects[WEBHOOK]["webhooks"]
    assert webhook["clientConfig"]["service"] == {}, "the rest stays"
    return base64.b64decode(webhook["clientConfig"]["caBundle"]).decode()


def test_the_first_makes_it_and_is_trusted() -> None:
    world = store()
    own = injector(world)
    assert look(own) == certificate.LOOK_SECONDS
    values = secret_values(world.objects["Secret", "handfast-injector-tls"])
    assert trusted(world) == values["ca.crt"]
    assert certificates.hosts(values["tls.crt"]) == HOSTS
    assert own.expiry == certificates.expiry(values["tls.crt"])


def test_the_second_takes_what_is_there() -> None:
    world = store()
    look(injector(world))
    world.forget_calls()
    look(injector(world))
    assert world.writes() == []


def test_whoever_is_slower_takes_the_others() -> None:
    world = store()

    class Slow(FakeStore):
        async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Any:
            """What it reads is from before the other one wrote."""
            empty = {"metadata": {"resourceVersion": "0"}}
            return empty if kind == "Secret" else await world.get(api, kind, namespace, name)

    slow = Slow(objects=world.objects)
    look(injector(world))
    before = secret_values(world.objects["Secret", "handfast-injector-tls"])
    assert look(injector(slow)) == 0.0, "it looks again at once"
    assert secret_values(world.objects["Secret", "handfast-injector-tls"]) == before


def test_trust_that_somebody_took_away_is_mended() -> None:
    world = store()
    own = injector(world)
    look(own)
    before = trusted(world)
    world.edit(*WEBHOOK, webhooks=[{"name": "pods.handfast.dev", "clientConfig": {"service": {}}}])
    look(own)
    assert trusted(world) == before


def test_another_authority_is_trusted_beside_the_former_until_that_is_out_of_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And before anybody is answered by it: nobody is refused meanwhile."""
    world, now, at_load = store(), NOW, list[str]()
    monkeypatch.setattr(certificate, "NEWS_SECONDS", 0.0)
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr(certificate, "load", lambda *_: at_load.append(trusted(world)))
    one, other = injector(world), injector(world)
    look(one)
    look(other)
    former = trusted(world)
    world.objects["Secret", "handfast-injector-tls"]["data"] = {}
    now += 1000
    look(one)
    both = trusted(world)
    assert both.endswith(former)
    assert both != former
    assert at_load[-1] == both
    now += certificate.LOOK_SECONDS
    look(other)
    assert at_load[-1] == both == trusted(world)
    now += certificate.BOTH_SECONDS
    look(one)
    assert trusted(world) == both.removesuffix(former)


@pytest.mark.parametrize("bundle", ["", "bm9uc2Vuc2U=", "////"])
def test_trust_that_cannot_be_read_is_replaced(bundle: str) -> None:
    world = store(caBundle=bundle)
    look(injector(world))
    assert trusted(world) == secret_values(world.objects["Secret", "handfast-injector-tls"])["ca.crt"]


@pytest.mark.parametrize("missing", [("Secret", "handfast-injector-tls"), WEBHOOK])
def test_what_the_chart_makes_is_not_made_by_the_injector(missing: tuple[str, str]) -> None:
    world = store()
    del world.objects[missing]
    with pytest.raises(LookupError, match=f"there is no {missing[0]} {missing[1]}: the chart makes it"):
        look(injector(world))


def test_a_renewed_leaf_is_trusted_by_what_was_trusted_before() -> None:
    first = kept({}, HOSTS, NOW)
    assert first.fresh
    assert not kept(first.values(), HOSTS, NOW + 9 * 86400).fresh
    later = kept(first.values(), HOSTS, NOW + 11 * 86400)
    assert later.fresh
    assert later.authority == first.authority
    assert certificates.issued_by(later.leaf.certificate, first.authority.certificate)


@pytest.mark.parametrize("broken", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
def test_what_somebody_broke_is_made_anew(broken: str) -> None:
    values = kept({}, HOSTS, NOW).values()
    for text in ("", "nonsense", kept({}, HOSTS, NOW).values()[broken]):
        mended = kept(values | {broken: text}, HOSTS, NOW)
        assert mended.fresh
        assert mended.leaf.fits()
        assert certificates.issued_by(mended.leaf.certificate, mended.authority.certificate)


def test_another_name_needs_another_leaf() -> None:
    first = kept({}, HOSTS, NOW)
    assert kept(first.values(), ("injector.elsewhere.svc",), NOW).fresh


def test_a_folders_certificate_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    authority = certificates.make_authority(NOW)
    own, expiries = FolderCertificate(tmp_path), []
    for now in (NOW, NOW + 86400):
        leaf = certificates.webhook_leaf(authority, HOSTS, now)
        (tmp_path / "tls.crt").write_text(leaf.certificate)
        (tmp_path / "tls.key").write_text(leaf.key)
        assert look(own) == certificate.LOOK_SECONDS
        expiries.append(own.expiry)
    assert expiries[1] == (expiries[0] or 0) + 86400


def test_a_folder_without_a_certificate() -> None:
    with pytest.raises(FileNotFoundError):
        look(FolderCertificate(Path("/nowhere")))
