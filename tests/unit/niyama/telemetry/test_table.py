"""The documented tables are those of the code, and Prometheus accepts every name."""

import re
from pathlib import Path

from niyama.telemetry.instrument import Kind
from niyama.telemetry.table import declared, exposed_name, table

ALERTS = Path(__file__).parents[4] / "docs" / "alerts.yaml"
PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"


def test_the_documented_tables_are_those_of_the_code() -> None:
    assert table() in PAGE.read_text(), (
        "put the output of `python -m niyama.telemetry.table` into docs/metrics.md"
    )


def test_alerts_are_about_what_is_measured() -> None:
    named = set(re.findall(r"\b(?:niyama|http|messaging|gen_ai)_\w+", ALERTS.read_text()))
    measured = {exposed_name(each) for each in declared()}
    labels = set(re.findall(r"`(\w+)`", table().split("### Labels")[1]))
    assert {name.removesuffix("_count") for name in named} <= measured | labels


def test_every_instrument_has_a_name_of_its_own_and_a_description() -> None:
    names = [exposed_name(each) for each in declared()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert all(each.description for each in declared())


def test_histograms_alone_have_buckets_and_these_ascend() -> None:
    for each in declared():
        assert bool(each.buckets) == (each.kind is Kind.HISTOGRAM)
        assert list(each.buckets) == sorted(set(each.buckets))
