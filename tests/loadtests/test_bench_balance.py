"""The benchmarks of balancing: what cells are made of, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.arrivals import mean_rate, offered, schedule
from loadtests.bench import balance, picture, simulated, thin_links, unlike_sites


@pytest.mark.parametrize("ingress", balance.INGRESSES)
def test_every_cell_offers_its_load(ingress: balance.Ingress) -> None:
    load = balance.campaign(ingress, 0.7, seed=1)
    for at in (5.0, 25.0, 55.0):
        assert mean_rate(load, at) == pytest.approx(0.7 * 750)
        by_door = offered(load, ["s0", "s1", "s2", "s3"], "ppocr-cls", at)
        assert sum(by_door) == pytest.approx(0.7 * 750)
    if ingress == "skewed":
        assert by_door == sorted(by_door, reverse=True)


def test_the_van_has_one_line_to_all() -> None:
    fleet = thin_links.fleet()
    assert fleet.bytes_per_s("van", "hub") == fleet.bytes_per_s("studio", "van") == 1.25e6
    assert fleet.bytes_per_s("studio", "hub") > 1e8


@pytest.mark.parametrize("kind", unlike_sites.LOADS)
def test_unlike_sites_are_offered_their_load(kind: unlike_sites.Arrivals) -> None:
    load, sites = unlike_sites.campaign(kind, 0.7, seed=1), list(unlike_sites.SITES)
    doors = [start.door for start in schedule(load, sites)]
    # 15 requests in 150 ms, of which two in five come to the kiosk.
    assert len(doors) / load.seconds == pytest.approx(70, rel=0.05)
    assert doors.count("kiosk") / len(doors) == pytest.approx(0.4, rel=0.1)


def test_cells_are_judged_by_whole_policies_only_and_published(tmp_path: Path) -> None:
    """In short cells: what is said follows from the figures, and a policy that loses requests is no best."""
    load = balance.campaign("even", 0.7, seed=1, seconds=4)
    policies = ("headend", "local-only", "static-shares", "clairvoyant")
    (cell,) = simulated.run([simulated.Cell("even", 0.7, balance.fleet(), (load,))], policies)
    assert cell["policies"]["local-only"]["failed"] > simulated.LOSSY
    for metric in simulated.METRICS:
        best = cell["best"][metric]
        assert best["policy"] in ("headend", "static-shares")
        ours, other = (cell["policies"][name][metric] for name in ("headend", best["policy"]))
        assert best["ours_over_it"] == pytest.approx(ours / other)
        assert cell["aims"][f"{metric} best or within 5%"] == (ours <= 1.05 * other)
    published = simulated.publish("balance", tmp_path, [cell], [1])
    assert json.loads(published.read_text())["cells"] == [cell]
    picture.draw([cell], policies, tmp_path / "balance.png")
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")
