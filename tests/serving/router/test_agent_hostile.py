"""Hostile messages to a real agent, through its real peer listener: refused, counted, and without effect.

Whoever sends them holds a certificate of the fleet, that of a site where nothing runs: nobody else gets in.
"""

from __future__ import annotations

import json
import random
import zlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest
from agent_sites import RunningSite, running
from waiting import until

from serving.identity import Authority, SiteIdentity, client_context, server_name
from serving.router.telemetry.message import Message, Reason, Signed, encode
from serving.router.telemetry.seal import IdentitySeal

pytestmark = pytest.mark.e2e
POOL = {"kind": "app", "ready": True, "capacity": 5.0, "service_ms": 20.0, "room": 8}
BOOTS = ["a" * 32, "b" * 32]


@dataclass(frozen=True)
class Attack:
    here: RunningSite
    client: httpx.Client
    identities: dict[str, SiteIdentity]

    def send(self, body: bytes, **headers: str) -> httpx.Response:
        return self.client.post(
            f"{self.here.peer.replace('http', 'https')}/-/agent/telemetry",
            content=body,
            headers=headers,
            extensions={"sni_hostname": server_name("three", "here")},
        )

    def told(self, *summaries: Signed, site: str = "hole") -> httpx.Response:
        return self.send(encode(Message(fleet="three", site=site, summaries=list(summaries))))

    def signed(self, text: str, by: str = "hole") -> Signed:
        return IdentitySeal("three", self.identities[by]).sign(text)

    def refused(self, reason: Reason) -> float:
        return self.here.metric(f'headend_summaries_refused_total{{reason="{reason}"}}')

    def known(self, site: str = "hole") -> tuple[Any, bool]:
        """What the agent believes of a site's pools, and whether it leads requests there."""
        routes = self.here.routes()
        rows = routes["shares"].get("app.review", {}).values()
        return routes["sites"][site]["pools"], any(row.get(site) for row in rows)


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    root = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(root / "home"))
        authority = Authority.make("three")
        identities = {site: SiteIdentity.of("three", site) for site in ("here", "there", "hole")}
        for site in identities:
            authority.renew(site)
        stranger = SiteIdentity(root / "stranger")
        Authority.make("other").issue("hole", stranger)
        with (
            running(root / "agents") as sites,
            httpx.Client(verify=client_context(identities["hole"]), timeout=20) as client,
        ):
            here = sites["here"]
            until(lambda: here.hears("there") and sites["there"].hears("here"), "summaries", 60)
            until(lambda: here.routes()["plan_age_s"] is not None, "a plan", 60)
            yield Attack(here, client, identities | {"stranger": stranger})


def summary(sequence: int = 1, boot: str = BOOTS[0], **changes: Any) -> str:
    """JSON that `SiteSummary` would not always write."""
    whole = {"fleet": "three", "site": "hole", "boot": boot, "sequence": sequence}
    return json.dumps(whole | {"pools": {"app.review": POOL}} | changes)


def pool(**changes: Any) -> str:
    return summary(pools={"app.review": POOL | changes})


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (pool(capacity=float("nan")), "format"),
        (pool(capacity=float("inf")), "format"),
        (pool(capacity=-1.0), "format"),
        (pool(capacity=1e300), "format"),
        (pool(offered={"live": -5.0}), "format"),
        (pool(offered={"royal": 5.0}), "format"),
        (pool(in_flight="7"), "format"),
        (pool(by_batch={"0": {"executions": 1.0, "mean_ms": 1.0}}), "format"),
        (pool(instances=10**9), "format"),
        (pool(evil=1), "format"),
        (summary(sequence=-1), "format"),
        (summary(sequence=2**60), "format"),
        (summary(format=2), "format"),
        (summary(pools={f"app.x{n}": POOL for n in range(300)}), "format"),
        (summary(pools={"app.review\n": POOL}), "format"),
        (summary(links={f"s{n}": {"rtt_ms": 1.0} for n in range(65)}), "format"),
        (summary()[:-9], "format"),
        (NESTED, "format"),
        ("", "format"),
        (summary(fleet="four"), "fleet"),
        (summary(site="nowhere"), "site"),
        (summary(site="here"), "site"),
    ],
)
def test_a_summary_that_must_not_be_is_refused(attack: Attack, text: str, reason: Reason) -> None:
    before, known = attack.refused(reason), attack.known()
    assert attack.told(attack.signed(text)).status_code == 200, "the message itself is one"
    assert attack.refused(reason) == before + 1
    assert attack.known() == known


@pytest.mark.parametrize("by", ["hole", "stranger", "nobody", "changed"])
def test_nobody_speaks_for_another_site(attack: Attack, by: str) -> None:
    text = summary(site="there", pools={"app.review": POOL | {"capacity": 123456.0}})
    if by == "nobody":
        forged = Signed(summary=text)
    elif by == "changed":
        forged = attack.signed(summary(site="there"), "there").model_copy(update={"summary": text})
    else:
        forged = attack.signed(text, by)
    before = attack.refused("signature")
    attack.told(forged)
    assert attack.refused("signature") == before + 1
    assert attack.here.routes()["sites"]["there"]["pools"]["app.review"]["capacity"] != 123456.0


def test_a_message_in_another_sites_name_is_refused(attack: Attack) -> None:
    before = attack.refused("site")
    answer = attack.told(attack.signed(summary(site="there"), "there"), site="there")
    assert (answer.status_code, answer.json()["reason"]) == (400, "site")
    assert attack.refused("site") == before + 1


def test_what_was_said_before_counts_no_more(attack: Attack) -> None:
    def capacity() -> float:
        found: float = attack.here.routes()["sites"]["hole"]["pools"]["app.review"]["capacity"]
        return found

    def say(sequence: int, boot: str, capacity: float) -> Signed:
        pools = {"app.review": POOL | {"capacity": capacity}}
        return attack.signed(summary(sequence, boot, pools=pools))

    first, second, restarted = say(5, BOOTS[0], 5.0), say(6, BOOTS[0], 6.0), say(1, BOOTS[1], 7.0)
    for each, expected in ((first, 5.0), (second, 6.0)):
        attack.told(each)
        assert capacity() == expected
    before = attack.refused("replay")
    attack.told(first)
    assert (capacity(), attack.refused("replay")) == (6.0, before + 1)
    attack.told(restarted)
    assert capacity() == 7.0
    attack.told(say(900, BOOTS[0], 8.0))
    assert (capacity(), attack.refused("replay")) == (7.0, before + 2)


def test_messages_that_are_none_are_refused_and_cost_no_memory(attack: Attack) -> None:
    whole = encode(Message(fleet="three", site="hole", summaries=[attack.signed(summary())]))
    bomb = zlib.compress(b" " * (512 << 20), 9)
    process = psutil.Process(attack.here.processes["agent"].pid)
    memory = process.memory_info().rss
    for body, reason in (
        (whole[: len(whole) // 2], "format"),
        (whole[5:], "format"),
        (b"", "format"),
        (zlib.compress(NESTED.encode()), "format"),
        (zlib.compress(b'{"fleet": "three", "site": "hole", "known": {"hole": ["x", 1]}}'), "format"),
        (bomb, "size"),
        (b"x" * (3 << 20), "size"),
    ):
        answer = attack.send(body)
        assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    # No encoding of HTTP's is undone before it is counted.
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    answer = attack.send(packed.compress(whole) + packed.flush(), **{"content-encoding": "gzip"})
    assert answer.json()["reason"] == "format"
    assert process.memory_info().rss - memory < 100 << 20


def test_a_thousand_broken_messages_change_nothing(attack: Attack) -> None:
    """Bytes changed, lost and doubled, in the message and in what it holds. The seed makes a failure come
    again.
    """
    chance = random.Random(7)
    good = attack.signed(summary(site="there", sequence=10**9, boot=BOOTS[1]), "hole").model_dump_json()
    text = f'{{"fleet": "three", "site": "hole", "summaries": [{good}]}}'.encode()
    total = sum(attack.refused(reason) for reason in ("format", "signature", "size", "fleet", "site"))
    known, sent = attack.known("there")[0].keys(), 1000
    for _ in range(sent):
        body = _broken(text, chance)
        body = _broken(zlib.compress(body), chance) if chance.random() < 0.2 else zlib.compress(body)
        assert attack.send(body).status_code in (200, 400)
    after = sum(attack.refused(reason) for reason in ("format", "signature", "size", "fleet", "site"))
    # Some changes leave a message without a summary; none has one that counts.
    assert after - total > sent * 0.9
    assert attack.known("there")[0].keys() == known
    assert attack.here.hears("there")
    assert attack.here.routes()["plan_age_s"] < 30


def _broken(data: bytes, chance: random.Random) -> bytes:
    at, kind = chance.randrange(len(data)), chance.random()
    if kind < 0.5:
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    length = chance.randrange(1, 40)
    if kind < 0.75:
        return data[:at] + data[at + length :]
    return data[:at] + data[at : at + length] + data[at:]


def test_noise_is_refused(attack: Attack) -> None:
    chance, before = random.Random(8), attack.refused("format")
    for size in (1, 2, 50, 1000, 100_000):
        assert attack.send(chance.randbytes(size)).status_code == 400
        assert attack.send(zlib.compress(b64encode(chance.randbytes(size)))).status_code == 400
    assert attack.refused("format") == before + 10
