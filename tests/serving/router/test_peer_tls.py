"""Mutual TLS between real front doors: who gets in, who does not, and changes that nobody notices."""

from __future__ import annotations

import shutil
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import httpx
import plain_sites
import pytest
from router_parts import RunningSite
from waiting import free_ports, until

from serving.fleet import DEFAULT_CLASS, Fleet
from serving.identity import Authority, SiteIdentity, client_context, server_name, spiffe_id
from serving.router import envoy, tls
from serving.router.view import Pool

pytestmark = pytest.mark.e2e

REFUSED = (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)
FLEET = """
fleet: f
models: {{}}
apps: {{review: {{}}}}
sites:
  a: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}
  b: {{front_door: "127.0.0.1:{2}", peer: "127.0.0.1:{3}"}}
"""


@dataclass(frozen=True)
class Sites:
    a: RunningSite
    b: RunningSite
    authority: Authority
    root: Path

    def outsider(self, name: str, fleet: str = "f", life: timedelta | None = None) -> SiteIdentity:
        """An identity that is no site's here, in a directory of its own."""
        identity = SiteIdentity(self.root / f"outsider-{name}-{fleet}")
        authority = self.authority if fleet == "f" else Authority.make(fleet)
        authority.issue(name, identity, *([life] if life else []))
        return identity


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    root = tmp_path_factory.mktemp("peer-tls")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(root))
        # So that every step of a change is met by new connections, and the tests need not wait for them.
        patch.setattr(tls, "CONNECTION_LIFE", "0.5s")
        authority = Authority.make("f")
        fleet = Fleet.parse(FLEET.format(*free_ports(4)), where="here")
        a, b = (
            plain_sites.site(fleet, name, root / name, identity=str(SiteIdentity.of("f", name).path))
            for name in ("a", "b")
        )
        for name in ("a", "b"):
            authority.renew(name)
        with plain_sites.running(a, b):
            for each in (a, b):
                until(lambda url=each.url: _answered_by(url, "x"), f"both sites through {each.url}", 60)
            yield Sites(a, b, authority, root)


def _answered_by(url: str, busy: str) -> str | None:
    """The site that answers a call at `url` while site `busy` refuses."""
    response = httpx.post(f"{url}/v1/moderations", headers={"x-test-busy": busy}, timeout=10)
    return response.headers.get("x-headend-site") if response.status_code == 200 else None


def _knock(site: RunningSite, identity: SiteIdentity, *, show: bool = True) -> int:
    """The status that a peer with `identity` gets at the peer listener of `site`; raises `OSError`s of httpx
    where it is not let in.
    """
    context = client_context(identity)
    if not show:
        context = ssl.create_default_context(cafile=str(identity.authorities))
    at = site.view.local.peer
    with httpx.Client(verify=context) as client:
        response = client.get(
            f"https://{at.ip}:{at.port}/-/ready/review",
            extensions={"sni_hostname": server_name("f", site.view.local.name)},
        )
        return response.status_code


def test_sites_answer_for_each_other(sites: Sites) -> None:
    for door, other in ((sites.a, "b"), (sites.b, "a")):
        busy = door.view.local.name
        until(lambda door=door, busy=busy, other=other: _answered_by(door.url, busy) == other, "a hop", 60)
        healthy = "cluster.app.review.http.health_check.healthy"
        until(lambda door=door, name=healthy: door.stats(name)[name] == 2, "probes over TLS too", 15)
        assert door.stats("ssl.handshake")["cluster.app.review.http.ssl.handshake"] > 0


def test_a_site_is_told_by_its_certificate_who_asks(sites: Sites) -> None:
    headers = {"x-test-busy": "a", "x-test-headers": "yes", "x-headend-peer": "spiffe://f/site/b"}
    seen = httpx.post(f"{sites.a.url}/v1/moderations", headers=headers).json()["headers"]
    assert seen["x-headend-peer"] == spiffe_id("f", "a")


def test_whoever_is_no_site_of_this_fleet_is_refused(sites: Sites) -> None:
    a = SiteIdentity.of("f", "a")
    assert _knock(sites.b, a) == 200
    with pytest.raises(REFUSED, match=r"CERTIFICATE_REQUIRED|certificate required|reset"):
        _knock(sites.b, a, show=False)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{sites.b.peer_url}/-/ready/review")
    other = sites.outsider("a", "g")
    # It has to believe the door before the door may refuse it.
    shutil.copy(a.authorities, other.authorities)
    shutil.copy(a.revoked, other.revoked)
    with pytest.raises(REFUSED, match=r"(?i)unknown.?ca|reset"):
        _knock(sites.b, other)


def test_an_expired_certificate_is_refused(sites: Sites) -> None:
    expired = sites.outsider("old", life=timedelta(seconds=1))
    time.sleep(2)
    with pytest.raises(REFUSED, match=r"(?i)expired|reset"):
        _knock(sites.b, expired)


def test_a_site_that_pretends_to_be_another_is_not_asked(sites: Sites) -> None:
    """`b` has a certificate of this fleet, but not one that says `b`."""
    identity = SiteIdentity.of("f", "b")
    pretender = sites.outsider("c")
    shutil.copytree(identity.path, sites.root / "kept")
    failures = "cluster.app.review.http.ssl.fail_verify_san"
    before = sites.a.stats(failures)[failures]
    _put(pretender, identity)
    try:
        until(lambda: sites.a.stats(failures)[failures] > before, "a refusal", 60)
        until(lambda: _answered_by(sites.a.url, "a") is None, "no hop to the pretender", 60)
    finally:
        sites.authority.revoke("c")
        _put(SiteIdentity(sites.root / "kept"), identity)
    until(lambda: _answered_by(sites.a.url, "a") == "b", "a hop again", 60)


def _put(source: SiteIdentity, target: SiteIdentity) -> None:
    """As an operator does who carries files: each moved into its place."""
    for name in ("crl.pem", "ca.pem", "key.pem", "cert.pem"):
        shutil.copy(source.path / name, target.path / f".{name}")
        (target.path / f".{name}").replace(target.path / name)


class Traffic:
    """Calls that need the other site, one after the other from several clients, until the block ends."""

    def __init__(self, url: str, busy: str, clients: int = 4) -> None:
        self.seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(url, busy), daemon=True) for _ in range(clients)
        ]

    def _call(self, url: str, busy: str) -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/moderations", headers={"x-test-busy": busy})
                    self.seen[f"{answer.status_code} {answer.headers.get('x-headend-site')}"] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1
                time.sleep(0.005)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_renewal_and_rotation_under_traffic_drop_nothing(sites: Sites) -> None:
    serial = SiteIdentity.of("f", "b").read_certificate().serial_number
    with Traffic(sites.a.url, "a") as traffic:
        for name in ("a", "b"):
            sites.authority.issue(name, SiteIdentity.of("f", name))
        for _ in range(3):
            sites.authority.rotate(["a", "b"])
            sites.authority.distribute(["a", "b"])
            asked = traffic.seen["200 b"]
            until(lambda asked=asked: traffic.seen["200 b"] > asked + 50, "traffic between the steps", 60)
            time.sleep(0.5)
    assert set(traffic.seen) == {"200 b"}
    assert SiteIdentity.of("f", "b").read_certificate().serial_number != serial
    assert _knock(sites.b, SiteIdentity.of("f", "a")) == 200


def test_a_revoked_site_is_shut_out_and_comes_back(sites: Sites) -> None:
    b = SiteIdentity.of("f", "b")
    sites.authority.revoke("b")
    sites.authority.distribute(["a", "b"])
    with pytest.raises(
        (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError), match=r"(?i)revoked|reset"
    ):
        until(lambda: _knock(sites.a, b) is None, "a refusal", 10)
    until(lambda: _answered_by(sites.a.url, "a") is None, "no hop, on old connections neither", 10)
    sites.authority.issue("b", b)
    until(lambda: _answered_by(sites.a.url, "a") == "b", "a hop again", 60)


def test_what_the_plan_leads_to_a_dead_site_comes_home(sites: Sites) -> None:
    """Through the own peer listener, which knows the own certificate."""
    a, out = sites.a, sites.a.directory / "envoy"
    plan = {(Pool("app", "review"), DEFAULT_CLASS): {"b": 1.0}}
    envoy.write_shares(replace(a.view, plan=plan), out)
    until(lambda: _answered_by(a.url, "x") == "b", "the plan is followed", 60)
    sites.b.parts["envoy"].kill()
    try:
        assert {_answered_by(a.url, "x") for _ in range(30)} == {"a"}
    finally:
        sites.b.restart("envoy")
        envoy.write_shares(a.view, out)
