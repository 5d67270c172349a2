"""`headend dashboards`: what Grafana and Prometheus need to show a fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from models.console import out
from models.errors import HeadendError
from models.files import write_atomic
from serving.cli_options import AnyFleet, known
from serving.observe.alerts import rules
from serving.observe.dashboard import dashboard
from serving.observe.scraping import scrape_config
from serving.site.spec import SiteDirectory

app = typer.Typer(no_args_is_help=True, help="Grafana's dashboard, alerts, and where Prometheus reads.")


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="Gets `headend.json` and `alerts.yaml`.")],
) -> None:
    """Write the dashboard (import it into Grafana, or provision it) and Prometheus' alerting rules."""
    files = {"headend.json": json.dumps(dashboard(), indent=1), "alerts.yaml": _yaml(rules())}
    for name, text in files.items():
        write_atomic(directory / name, text.encode())
        out.print(str(directory / name))


@app.command("scrape-config")
def scrape(
    file: AnyFleet = None,
) -> None:
    """Print Prometheus' configuration for the sites on this machine: `prometheus --config.file` takes it.

    Metrics are open on loopback only, so run a Prometheus on each machine that has sites.
    """
    fleet = known(file)
    specs = [spec for site in fleet.sites if (spec := SiteDirectory(fleet.fleet, site).read_spec())]
    if not specs:
        raise HeadendError(
            f"No site of fleet {fleet.fleet} has been started here, so its ports are not chosen yet.",
            hint="Start it: headend up",
        )
    typer.echo(_yaml(scrape_config(specs)), nl=False)


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=200)
