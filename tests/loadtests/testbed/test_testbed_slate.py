"""The optimiser that headend is compared with: what its shares must be."""

from __future__ import annotations

import pytest

from loadtests.testbed import scenario as scenarios
from loadtests.testbed import slate


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("hot", ["kiosk", "hub"])
def test_shares_sum_to_one_and_no_site_gets_more_than_it_can_do(load, hot):
    scenario = scenarios.find("balance")
    cell = scenario.cells[0].model_copy(update={"load": load})
    ingress = {site: 10.0 if site == hot else 1.0 for site in scenario.sites}
    rows = slate.shares(scenario, cell, ingress, "clip")
    (rate,) = scenario.rates(cell)
    for row in rows.values():
        assert sum(row.values()) == pytest.approx(1)
        assert min(row.values()) >= 0
    for site in scenario.sites:
        gets = sum(rate * ingress[door] / sum(ingress.values()) * row[site] for door, row in rows.items())
        assert gets <= scenario.capacity(site, "clip")


def test_what_is_idle_stays_at_home():
    scenario = scenarios.find("balance")
    cell = scenario.cells[0].model_copy(update={"load": 0.05})
    rows = slate.shares(scenario, cell, {"plant": 1.0}, "clip")
    assert rows["plant"]["kiosk"] < 0.05
