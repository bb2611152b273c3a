"""Measurements: sums, buckets, bounded series, and one that fails."""

import math

from hypothesis import given
from hypothesis import strategies as st

from niyama.telemetry.admission import IDLE_S, OTHER
from niyama.telemetry.instrument import Attribute, Instrument, Kind
from niyama.telemetry.measurements import Measurements, Observed
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


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_invented_tenants_do_not_take_the_series_of_those_that_the_operator_names() -> None:
    measurements = Measurements(outside_values=3, named_values=["acme"])
    jobs = measurements.counter(JOBS)
    for number in range(100):
        jobs.add(1, "chat", f"invented-{number}")
    jobs.add(1, "chat", "acme")
    assert numbers(measurements, "jobs")["chat", "acme"] == 1


def test_tenants_without_a_job_for_an_hour_make_room_for_others() -> None:
    clock = Clock()
    measurements = Measurements(outside_values=3, named_values=["acme"], clock=clock)
    jobs = measurements.counter(JOBS)
    for tenant in ("acme", "a", "b", "busy", "late"):
        jobs.add(2, "chat", tenant)
        jobs.add(2, "batch", tenant)
    clock.now_s = IDLE_S / 2
    jobs.add(1, "chat", "busy")
    jobs.add(1, "chat", "late")
    assert {tenant for _, tenant in numbers(measurements, "jobs")} == {
        *("acme", "a", "b", "busy", OTHER)
    }

    clock.now_s = IDLE_S
    jobs.add(1, "chat", "late")
    assert numbers(measurements, "jobs") == {
        **{(kind, "acme"): 2 for kind in ("chat", "batch")},
        ("chat", "busy"): 3,
        ("batch", "busy"): 2,
        ("chat", "late"): 1,
        ("chat", OTHER): 3,
        ("batch", OTHER): 2,
    }

    jobs.add(1, "chat", "a")  # is back
    jobs.add(1, "chat", "one too many")
    found = numbers(measurements, "jobs")
    assert (found["chat", "a"], found["chat", OTHER]) == (1, 4)
    clock.now_s = 2 * IDLE_S - 1
    jobs.add(1, "chat", "one too many")
    assert numbers(measurements, "jobs")["chat", OTHER] == 5


def test_a_series_that_came_later_says_since_when() -> None:
    measurements = Measurements(named_values=["acme"])
    jobs = measurements.counter(JOBS)
    for tenant in ("acme", "late"):
        jobs.add(1, "chat", tenant)
    (metric,) = measurements.collect()
    began = {
        (point.attributes or {})["tenant"]: point.start_time_unix_nano
        for point in metric.data.data_points
    }
    assert began["acme"] < began["late"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 600.0, IDLE_S]))))
def test_whoever_comes_and_goes_series_are_bounded_and_count_everything_since(
    jobs_of: list[tuple[str, float]],
) -> None:
    clock = Clock()
    measurements = Measurements(outside_values=2, named_values=["a"], clock=clock)
    jobs = measurements.counter(JOBS)
    for done, (tenant, passed_s) in enumerate(jobs_of):
        clock.now_s += passed_s
        before = numbers(measurements, "jobs")
        jobs.add(1, "chat", tenant)
        after = numbers(measurements, "jobs")
        assert len(after) <= 4
        assert sum(after.values()) <= done + 1
        grown = [place for place in after if after[place] > before.get(place, 0)]
        assert grown in ([("chat", tenant)], [("chat", OTHER)])
        assert all(after[place] >= before[place] for place in before.keys() & after.keys())


def test_a_tenant_has_series_of_its_own_in_every_instrument_or_in_none() -> None:
    measurements = Measurements(outside_values=1)
    first, second = measurements.counter(JOBS), measurements.counter(JOBS)
    first.add(1, "chat", "a")
    second.add(1, "chat", "b")
    second.add(1, "chat", "a")
    points = [point for metric in measurements.collect() for point in metric.data.data_points]
    tenants = [(point.attributes or {})["tenant"] for point in points]
    assert sorted(map(str, tenants)) == [OTHER, "a", "a"]


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
