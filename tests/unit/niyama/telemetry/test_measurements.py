"""Measurements: sums, buckets, bounded series, and one that fails."""

import math

from hypothesis import given
from hypothesis import strategies as st

from niyama.telemetry.instrument import Attribute, Instrument, Kind
from niyama.telemetry.measurements import OTHER, Measurements, Observed
from tests.support.metrics import numbers

CLASS = Attribute("class", "which")
TENANT = Attribute("tenant", "whose", bounded=False)
JOBS = Instrument("jobs", Kind.COUNTER, "{job}", "Jobs", (CLASS, TENANT))
WAITS = Instrument("waits", Kind.HISTOGRAM, "s", "Waits", (CLASS,), buckets=(0.1, 1.0))
DEPTH = Instrument("depth", Kind.GAUGE, "{job}", "Depth", constant={"system": "kafka"})


def test_a_counter_adds_up_by_the_values_of_its_attributes() -> None:
    measurements = Measurements()
    jobs = measurements.counter(JOBS)
    for tenant, count in (("a", 1), ("b", 2), ("a", 3)):
        jobs.add(count, "chat", tenant)
    assert numbers(measurements, "jobs") == {("chat", "a"): 4, ("chat", "b"): 2}


def test_a_thousand_tenants_make_a_bounded_number_of_series() -> None:
    measurements = Measurements(outside_values=3)
    jobs = measurements.counter(JOBS)
    for number in range(1000):
        jobs.add(1, "chat", f"tenant-{number}")
    found = numbers(measurements, "jobs")
    assert len(found) == 4
    assert found["chat", OTHER] == 997


def test_a_tenant_has_series_of_its_own_in_every_instrument_or_in_none() -> None:
    measurements = Measurements(outside_values=1)
    first, second = measurements.counter(JOBS), measurements.counter(JOBS)
    first.add(1, "chat", "a")
    second.add(1, "chat", "b")
    second.add(1, "chat", "a")
    points = [point for metric in measurements.collect() for point in metric.data.data_points]
    tenants = [(point.attributes or {})["tenant"] for point in points]
    assert sorted(map(str, tenants)) == ["a", "a", OTHER]


@given(st.lists(st.floats(min_value=-10, max_value=1e12) | st.just(math.nan)))
def test_every_value_of_a_histogram_is_in_one_bucket(values: list[float]) -> None:
    measurements = Measurements()
    waits = measurements.histogram(WAITS)
    for value in values:
        waits.record(value, "chat")
    for metric in measurements.collect():
        (point,) = metric.data.data_points
        assert point.count == sum(point.bucket_counts) == len(values)
        assert math.isclose(point.sum, sum(value for value in values if value > 0), abs_tol=1e-9)


def test_a_bound_is_included_in_its_bucket() -> None:
    measurements = Measurements()
    waits = measurements.histogram(WAITS)
    for value in (0.1, 0.5, 1.0, 1.5):
        waits.record(value, "chat")
    ((row, _),) = waits.rows()
    assert row == [1, 2, 1, 3.1]


def test_a_histogram_may_be_kept_elsewhere() -> None:
    measurements = Measurements()
    measurements.observe_rows(WAITS, lambda: [([1, 2, 3, 9.5], ("chat",))])
    assert numbers(measurements, "waits") == {("chat",): 6}


def test_one_that_fails_costs_nobody_the_others() -> None:
    def fails() -> Observed:
        raise RuntimeError("changed size during iteration")

    measurements = Measurements()
    measurements.observe(DEPTH, fails)
    measurements.counter(JOBS).add(1, "chat", "a")
    assert numbers(measurements, "jobs") == {("chat", "a"): 1}


def test_a_gauge_has_its_constant_attributes_and_no_value_that_is_not_a_number() -> None:
    measurements = Measurements()
    current = [7.0]
    measurements.observe(DEPTH, lambda: [(current[0], ())])
    assert numbers(measurements, "depth") == {("kafka",): 7}
    current[0] = math.inf
    assert numbers(measurements, "depth") == {}


def test_nothing_is_collected_when_measuring_is_off() -> None:
    measurements = Measurements(enabled=False)
    measurements.counter(JOBS).add(1, "chat", "a")
    assert measurements.collect() == []
