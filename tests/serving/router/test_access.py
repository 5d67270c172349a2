"""Who may call a real front door: keys, tokens, roles, limits, and that nothing of it leaks."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import plain_sites
import pytest
from issuer import Issuer
from router_parts import RunningSite
from waiting import free_ports, until

from serving.fleet import Access, Fleet
from serving.identity import KeyStore
from serving.router import envoy

pytestmark = pytest.mark.e2e

FLEET = """
fleet: f
models: {{}}
apps: {{review: {{}}}}
access:
  jwt: [{{issuer: "https://idp.example", audiences: [headend], jwks: "{jwks}"}}]
  tenants:
    slow: {{rate: 2}}
    narrow: {{concurrency: 2}}
sites:
  a: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}
"""


UNREACHABLE = (
    *("/v2/repository/index", "/v2/repository/models/m/load", "//v2//repository/index", "/v2/logging"),
    *("/v2/models/m/../../repository/index", "/v2%2Frepository/index", "/v2/trace/setting"),
    *("/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/x/register"),
    *("/stats", "/config_dump", "/quitquitquit", "/clusters", "/drain_listeners", "/logging", "/server_info"),
    *("/api/serve/applications/", "/-/routes", "/-/healthz", "/-/ready/review", "/-/alive", "/metrics"),
    *("/-/agent", "/-/agent/", "/-/agent/summary", "//-/agent/", "/v1/../-/agent/", "/-%2Fagent/"),
)


@dataclass
class Door:
    site: RunningSite
    store: KeyStore
    issuer: Issuer
    access: Access

    def key(self, tenant: str = "news", roles: Any = ("infer",), highest_class: Any = "interactive") -> str:
        """A new key, once the front door knows it."""
        key = self.store.create(tenant, roles, highest_class)[1]
        self.rewrite()
        until(lambda: self.ask(key).status_code != 401, "the key counts", 10)
        return key

    def rewrite(self) -> None:
        envoy.write_keys(self.access, self.store.read(), self.site.directory / "envoy")

    def ask(self, key: str | None = None, **headers: str) -> httpx.Response:
        bearer = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.post(
            f"{self.site.url}/v1/moderations", headers={**bearer, "x-test-headers": "yes", **headers}
        )

    def seen(self, key: str, **headers: str) -> dict[str, str]:
        answer = self.ask(key, **headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()["headers"]
        return found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    root = tmp_path_factory.mktemp("access")
    issuer = Issuer()
    (root / "jwks.json").write_text(issuer.jwks())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(root))
        fleet = Fleet.parse(FLEET.format(*free_ports(2), jwks=root / "jwks.json"), where="here")
        assert isinstance(fleet.access, Access)
        site = plain_sites.site(fleet, "a", root / "a")
        (inside,) = free_ports(1)
        site.view = replace(site.view, ports=replace(site.view.ports, inside=inside))
        plain_sites.write(site)
        with plain_sites.running(site):
            until(lambda: httpx.get(f"{site.url}/readyz").status_code == 200, "ready", 60)
            yield Door(site, KeyStore("f"), issuer, fleet.access)


def test_without_credentials_a_caller_is_told_what_to_send(door: Door) -> None:
    answer = door.ask()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["error"]["message"]
    assert "x-api-key" in httpx.get(f"{door.site.url}/v2").json()["error"]
    with grpc.insecure_channel(door.site.door) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "Authorization: Bearer" in caught.value.details()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_load_balancers_need_no_key(door: Door, path: str) -> None:
    assert httpx.get(f"{door.site.url}{path}").status_code == 200


def test_a_key_says_who_calls_and_goes_no_further(door: Door) -> None:
    key = door.key(tenant="news", highest_class="live")
    lies = {"x-headend-tenant": "boss", "x-headend-roles": "operate", "x-headend-key": "x"}
    seen = door.seen(key, **lies)
    assert {name: value for name, value in seen.items() if name.startswith("x-headend-")} == {
        "x-headend-tenant": "news",
        "x-headend-roles": "infer",
        "x-headend-top-class": "live",
        "x-headend-key": key.split("_")[1],
    }
    assert key.split("_", 2)[2] not in json.dumps(seen)
    other = httpx.post(f"{door.site.url}/v1/moderations", headers={"x-api-key": key})
    assert other.status_code == 200
    client = openai.OpenAI(base_url=f"{door.site.url}/v1", api_key=key, max_retries=0)
    assert client.models.list().data[0].id == "review"


@pytest.mark.parametrize("wrong", ["hk_aaaaaaaaaa_bbbb", "nonsense", "a.b.c", "hk_", "hk__", "hk_a_b\u00e4"])
def test_what_is_no_key_is_refused(door: Door, wrong: str) -> None:
    answer = httpx.post(
        f"{door.site.url}/v1/moderations", headers={"authorization": b"Bearer " + wrong.encode()}
    )
    assert answer.status_code == 401


def test_a_wrong_secret_is_refused(door: Door) -> None:
    key = door.key()
    answer = door.ask(key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "This API key is not known here, or was revoked."


def test_a_smuggled_credential_counts_for_nothing(door: Door) -> None:
    _, id, secret = door.key().split("_", 2)
    basic = "Basic " + base64.b64encode(f"{id}:{secret}".encode()).decode()
    assert door.ask(**{"x-headend-credential": basic}).status_code == 401
    assert door.ask(**{"authorization": basic}).status_code == 401
    assert door.ask(door.issuer.token(), **{"x-headend-credential": "Basic x"}).status_code == 200


def test_a_revoked_key_stops_on_an_open_connection(door: Door) -> None:
    key = door.key()
    with httpx.Client(base_url=door.site.url, headers={"x-api-key": key}) as client:
        assert client.post("/v1/moderations").status_code == 200
        door.store.revoke(key.split("_")[1])
        door.rewrite()
        until(lambda: client.post("/v1/moderations").status_code == 401, "refused", 5)


def test_a_class_above_the_keys_is_lowered(door: Door) -> None:
    plain, live = door.key(), door.key(highest_class="live")
    assert door.seen(plain, **{"x-headend-class": "live"})["x-headend-class"] == "interactive"
    assert door.seen(plain, **{"x-headend-class": "batch"})["x-headend-class"] == "batch"
    assert door.seen(live, **{"x-headend-class": "live"})["x-headend-class"] == "live"
    assert door.seen(door.issuer.token(), **{"x-headend-class": "live"})["x-headend-class"] == "interactive"


def test_roles(door: Door) -> None:
    operator, both = door.key(roles=["operate"]), door.key(roles=["infer", "operate"])
    answer = door.ask(operator)
    assert answer.status_code == 403
    assert "role" in answer.json()["error"]["message"]
    stats = f"{door.site.url}/v2/models/m/stats"

    def status(key: str) -> int:
        return httpx.get(stats, headers={"x-api-key": key}).status_code

    # There is no such model: 404 comes from behind the roles.
    assert [status(operator), status(both), status(door.key())] == [404, 404, 403]
    with grpc.insecure_channel(door.site.door) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10, metadata=[("authorization", f"Bearer {operator}")])
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_only_who_knows_a_keys_secret_learns_its_roles(door: Door) -> None:
    of_operator, of_other = door.key(roles=["operate"]).split("_"), door.key().split("_")
    forged = "_".join([*of_operator[:2], *of_other[2:]])
    assert door.ask(forged).status_code == 401


def test_tokens(door: Door) -> None:
    seen = door.seen(door.issuer.token(headend_class="live"))
    assert seen["x-headend-tenant"] == "radio"
    assert seen["x-headend-top-class"] == "live"
    assert "authorization" not in seen
    assert door.ask(door.issuer.token(scope="openid")).status_code == 403
    assert door.ask(door.issuer.token(sub="")).status_code == 403


@pytest.mark.parametrize(
    "claims", [{"exp": 1}, {"iss": "https://other.example"}, {"aud": "other"}, {"nbf": 99999999999}]
)
def test_tokens_that_do_not_fit_are_refused(door: Door, claims: dict[str, Any]) -> None:
    assert door.ask(door.issuer.token(**claims)).status_code in (401, 403)
    assert door.ask(Issuer().token()).status_code == 401


def test_a_tenants_rate_is_bounded(door: Door) -> None:
    key = door.key(tenant="slow")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: door.ask(key), range(8)))
    refused = [each for each in answers if each.status_code == 429]
    assert 3 <= len(refused) <= 7
    assert refused[0].headers["retry-after"] == "1"
    assert "more requests a second" in refused[0].json()["error"]["message"]
    with grpc.insecure_channel(door.site.door) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        codes = {_code(call, key) for _ in range(8)}
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    assert door.ask(door.key()).status_code == 200


def _code(call: Any, key: str) -> Any:
    try:
        call(b"", timeout=10, metadata=[("authorization", f"Bearer {key}")])
    except grpc.RpcError as error:
        return error.code()


def test_a_tenants_concurrency_is_bounded(door: Door) -> None:
    key = door.key(tenant="narrow")
    for _ in range(2):  # what has ended is counted no more
        with ThreadPoolExecutor(5) as pool:
            codes = list(pool.map(lambda _: door.ask(key, **{"x-test-seconds": "0.5"}), range(5)))
        refused = [each for each in codes if each.status_code == 429]
        assert [each.status_code for each in codes].count(200) == 2
        assert len(refused) == 3
        assert refused[0].headers["retry-after"] == "1"
        assert "under way" in refused[0].json()["error"]["message"]


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"]
)
def test_management_is_out_of_reach_with_every_role(door: Door, method: str) -> None:
    """Triton's management, Envoy's administration, Serve's API and the agent's, however they are spelt."""
    headers = {"x-api-key": door.key(roles=["infer", "operate"], highest_class="live")}
    connection = http.client.HTTPConnection(door.site.door, timeout=10)
    for path in UNREACHABLE:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (400, 403, 404, 405), path
        assert answer.headers["x-headend-site"] in (None, ""), f"{path} was forwarded"
    connection.close()


def test_apps_need_no_key_inside(door: Door) -> None:
    inside = f"http://127.0.0.1:{door.site.view.ports.inside}"
    assert httpx.post(f"{inside}/v1/moderations").status_code == 200


def test_the_log_names_the_tenant_and_holds_no_secret(door: Door) -> None:
    key, token = door.key(tenant="loud"), door.issuer.token(sub="quiet")
    door.ask(key)
    door.ask(token)
    log: Path = door.site.directory / "access.log"
    for tenant in ("loud", "quiet"):
        until(lambda tenant=tenant: f'"tenant":"{tenant}"' in log.read_text(), "an entry", 20)
    text = log.read_text() + (door.site.directory / "envoy.log").read_text()
    assert key.split("_", 2)[2] not in text
    assert token.split(".")[2] not in text
