"""The run's folder: what lies beside `result.json`."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import yaml

from loadtests.campaign import Campaign
from loadtests.histogram import Histogram
from loadtests.results import RESULT, Result
from loadtests.tally import SAMPLE_COLUMNS, Tally
from models.errors import UsageError
from models.files import write_atomic

CAMPAIGN, HISTOGRAMS, REQUESTS, LOG = "campaign.yaml", "histograms.hlog", "requests.csv.gz", "generator.log"


def prepare(out: Path) -> None:
    """Make the folder. Raises `UsageError` when nothing can be written there, or a run lies there already."""
    if (out / RESULT).exists():
        raise UsageError(f"{out} holds a run already.", hint="Give another folder with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG).touch()
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to {out}: {error.strerror or error}.",
            hint="Give another folder with --out.",
        ) from error


def write(out: Path, campaign: Campaign, tally: Tally, result: Result) -> None:
    """Write everything but the report."""
    declaration = campaign.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = yaml.safe_dump(declaration, sort_keys=False, allow_unicode=True)
    write_atomic(out / CAMPAIGN, text.encode())
    write_atomic(out / HISTOGRAMS, histogram_log(result).encode())
    write_atomic(out / REQUESTS, _table(tally))
    result.save(out)
    if not (out / LOG).stat().st_size:
        (out / LOG).unlink()


def histogram_log(result: Result) -> str:
    """HdrHistogram's log format 1.3: one histogram of response and one of service times a series, by tag."""
    lines = [
        "#[Histogram log format version 1.3]",
        f"#[{result.campaign.campaign}, started {result.started_at}; values in microseconds]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    for series in result.series:
        for kind, text in (("response", series.response), ("service", series.service)):
            # A tag may hold neither comma nor white space; none of these names does.
            tag = ".".join((kind, series.work, series.door, series.site or "-"))
            longest = Histogram.decode(text).max_ms
            begin = result.campaign.warm_up_s
            lines.append(f"Tag={tag},{begin:.3f},{result.judged_s:.3f},{longest:.3f},{text}")
    return "\n".join(lines) + "\n"


def _table(tally: Tally) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(SAMPLE_COLUMNS)
    writer.writerows(tally.sample())
    return gzip.compress(buffer.getvalue().encode(), mtime=0)
