"""The fleet declaration: what is derived, and what is refused with which words."""

import pytest

from models.errors import DeclarationError
from serving.fleet import Fleet, demo_fleet


def parse(text):
    return Fleet.parse(text, where="fleet.yaml")


def test_the_demo_fleet_is_two_local_sites_with_everything():
    fleet = demo_fleet()
    assert list(fleet.sites) == ["hub", "edge"]
    assert fleet.sites["hub"].front_door == "127.0.0.1:8080"
    assert fleet.sites["edge"].front_door == "127.0.0.1:8090"
    for site in fleet.sites:
        assert fleet.models_at(site) == sorted(fleet.models)
        assert fleet.apps_at(site) == ["review", "subtitles"]


def test_a_site_serves_what_it_lists_and_peers_beside_its_front_door():
    fleet = parse(
        "fleet: a\nmodels: {x: {}, y: {}}\napps: {review: {}}\n"
        "sites: {s: {front_door: '[::1]:9000', models: [y], apps: []}, t: {front_door: 'h:1', peer: 'h:7'}}"
    )
    assert fleet.models_at("s") == ["y"]
    assert fleet.apps_at("s") == []
    assert fleet.apps_at("t") == ["review"]
    assert fleet.sites["s"].peer_address == "[::1]:9001"
    assert fleet.sites["t"].peer_address == "h:7"


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ("{}", "at least 1 item"),
        ("{s: {front_door: 'h:0'}}", "not between 1 and 65535"),
        ("{s: {front_door: 'h:65535'}}", "no next port"),
        ("{s: {front_door: 'h'}}", "front_door"),
        ("{s: {front_door: 'h:1', peer: 'h:1'}}", "both listen on h:1"),
        ("{s: {front_door: 'h:1'}, t: {front_door: 'h:2'}}", "sites `s` and `t` both listen on h:2"),
        ("{s: {front_door: 'h:1', models: [z]}}", "models the fleet does not have: z"),
        ("{s: {front_door: 'h:1', apps: [review]}}", "apps the fleet does not have: review"),
        ("{s: {front_dor: 'h:1'}}", "did you mean `front_door`?"),
        ("{S: {front_door: 'h:1'}}", "sites.S"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(sites, words):
    with pytest.raises(DeclarationError) as refused:
        parse(f"fleet: a\nmodels: {{x: {{}}}}\nsites: {sites}")
    assert words in str(refused.value)
    assert "fleet.yaml" in str(refused.value)
