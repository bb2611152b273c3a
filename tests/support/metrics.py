"""Metrics of a process that is not there, and what they show."""

from collections.abc import Mapping

from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from prometheus_client.parser import text_string_to_metric_families

from niyama.telemetry.measurements import Measurements
from niyama.telemetry.metrics import Metrics
from niyama.telemetry.resource import resource_of
from workers.execution.job_metrics import JobMetrics


def metrics(measurements: Measurements | None = None) -> Metrics:
    return Metrics(measurements or Measurements(), resource_of("test", "default"))


def shown(text: bytes) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The samples of a scrape, by name and labels; the pool's label is left out."""
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = frozenset(sample.labels.items() - {("niyama_pool", "default")})
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def numbers(measurements: Measurements, name: str) -> dict[tuple[str, ...], float]:
    """The values of a counter or gauge, or how many values a histogram has, by its attributes."""
    for metric in measurements.collect():
        if metric.name == name:
            return {_values(point.attributes): _value(point) for point in metric.data.data_points}
    return {}


def _values(attributes: Mapping[str, object] | None) -> tuple[str, ...]:
    return tuple(str(value) for value in (attributes or {}).values())


def _value(point: object) -> float:
    if isinstance(point, HistogramDataPoint):
        return point.count
    assert isinstance(point, NumberDataPoint)
    return point.value


def job_metrics(measurements: Measurements | None = None) -> JobMetrics:
    """Of a worker's jobs, at a fixed time."""
    return JobMetrics(measurements or Measurements(), "m", "g", lambda: 1030.2)
