"""What this process has measured, added up in plain Python.

The SDK's own instruments take some 15 µs for each value, more than a job can spare a dozen times.
Here a value costs less than one; it becomes the SDK's data when it is collected.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from niyama.logs import Throttle
from niyama.telemetry.admission import Admission, Values
from niyama.telemetry.buckets import Buckets
from niyama.telemetry.instrument import Instrument, Kind

T = TypeVar("T")

log = logging.getLogger(__name__)

Observed = Iterable[tuple[float, Values]]
"""Current values, with those of the attributes."""
ObservedRows = Sequence[tuple[Sequence[float], Values]]
"""Rows of `Buckets`, with the values of the attributes."""
CUMULATIVE = AggregationTemporality.CUMULATIVE


class CounterSeries:
    """A counter's totals, by the values of its attributes."""

    def __init__(self, instrument: Instrument, admission: Admission) -> None:
        self.instrument = instrument
        self._admission = admission
        self._totals: dict[Values, list[float]] = {}
        """Each in a list of its own, so that to count is to look for `values` once: they have
        members of enumerations, whose hashes are slow."""

    def add(self, count: float, *values: str) -> None:
        """Add `count` to the series with these attribute `values`."""
        (self._totals.get(values) or self._new(values))[0] += count

    def observed(self) -> Observed:
        return [(total, values) for values, [total] in list(self._totals.items())]

    def forget(self, values: Values) -> None:
        """Drop the series with these attribute `values`."""
        self._totals.pop(values, None)

    def _new(self, values: Values) -> list[float]:
        values = self._admission.bounded(self.instrument, values)
        return self._totals.setdefault(values, [0])


class HistogramSeries:
    """A histogram's buckets, by the values of its attributes."""

    def __init__(self, instrument: Instrument) -> None:
        assert not instrument.is_open
        self.instrument = instrument
        self._buckets: dict[Values, Buckets] = {}

    def record(self, value: float, *values: str) -> None:
        """Count `value` in the series with these attribute `values`."""
        (self._buckets.get(values) or self._new(values)).add(value)

    def rows(self) -> ObservedRows:
        return [(buckets.row(), values) for values, buckets in list(self._buckets.items())]

    def _new(self, values: Values) -> Buckets:
        return self._buckets.setdefault(values, Buckets(self.instrument.buckets))


class _NoCounter(CounterSeries):
    def add(self, count: float, *values: str) -> None:
        """Measuring is off."""


class _NoHistogram(HistogramSeries):
    def record(self, value: float, *values: str) -> None:
        """Measuring is off."""


class Measurements:
    """Every instrument of this process."""

    def __init__(
        self,
        *,
        enabled: bool = True,
        outside_values: int = 100,
        named_values: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`outside_values`: how many values of an attribute that is not bounded get series, beside
        `named_values`. `clock` gives monotonic seconds."""
        self.enabled = enabled
        self._admission = Admission(outside_values, named_values, clock)
        self._histograms: list[tuple[Instrument, Callable[[], ObservedRows]]] = []
        self._observed: list[tuple[Instrument, Callable[[], Observed]]] = []
        self._start_ns = time.time_ns()
        self._throttle = Throttle()

    def counter(self, instrument: Instrument) -> CounterSeries:
        """A new counter; one that counts nothing when measuring is off."""
        assert instrument.kind is Kind.COUNTER
        if not self.enabled:
            return _NoCounter(instrument, self._admission)
        series = CounterSeries(instrument, self._admission)
        self._admission.add(series)
        self.observe(instrument, series.observed)
        return series

    def histogram(self, instrument: Instrument) -> HistogramSeries:
        """A new histogram, likewise."""
        assert instrument.kind is Kind.HISTOGRAM
        if not self.enabled:
            return _NoHistogram(instrument)
        series = HistogramSeries(instrument)
        self.observe_rows(instrument, series.rows)
        return series

    def observe(self, instrument: Instrument, current: Callable[[], Observed]) -> None:
        """Call `current` whenever a gauge, or a counter kept elsewhere, is collected.

        It is called from other threads, and must not wait.
        """
        assert instrument.kind is not Kind.HISTOGRAM
        self._observed.append((instrument, current))

    def observe_rows(self, instrument: Instrument, current: Callable[[], ObservedRows]) -> None:
        """Likewise for a histogram that is kept elsewhere, in the instrument's buckets."""
        assert instrument.kind is Kind.HISTOGRAM
        self._histograms.append((instrument, current))

    def collect(self) -> list[Metric]:
        """What was measured so far, cumulative, in the SDK's form."""
        if not self.enabled:
            return []
        now_ns = time.time_ns()
        numbers = [self._numbers(*observed, now_ns) for observed in list(self._observed)]
        histograms = [self._histogram(*observed, now_ns) for observed in list(self._histograms)]
        return [metric for metric in (*numbers, *histograms) if metric.data.data_points]

    def _numbers(
        self, instrument: Instrument, current: Callable[[], Observed], now_ns: int
    ) -> Metric:
        begun, is_open = self._admission.since_ns, instrument.is_open
        points = [
            NumberDataPoint(
                _attributes(instrument, values),
                begun(instrument, values, self._start_ns) if is_open else self._start_ns,
                now_ns,
                value,
            )
            for value, values in self._safely(instrument, current)
            if math.isfinite(value)
        ]
        counter = instrument.kind is Kind.COUNTER
        data = Sum(points, CUMULATIVE, is_monotonic=True) if counter else Gauge(points)
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _safely(self, instrument: Instrument, current: Callable[[], Iterable[T]]) -> list[T]:
        """One that fails costs nobody the others."""
        try:
            return list(current())
        except Exception:
            self._throttle.exception(log, "%s cannot be measured", instrument.name)
            return []

    def _histogram(
        self, instrument: Instrument, current: Callable[[], ObservedRows], now_ns: int
    ) -> Metric:
        points = [
            HistogramDataPoint(
                attributes=_attributes(instrument, values),
                start_time_unix_nano=self._start_ns,
                time_unix_nano=now_ns,
                count=int(sum(row[:-1])),
                sum=row[-1],
                bucket_counts=[int(count) for count in row[:-1]],
                explicit_bounds=instrument.buckets,
                min=None,  # type: ignore[arg-type]  # optional in OTLP, and not kept here
                max=None,  # type: ignore[arg-type]
            )
            for row, values in self._safely(instrument, current)
        ]
        return Metric(
            instrument.name, instrument.description, instrument.unit, Histogram(points, CUMULATIVE)
        )


def _attributes(instrument: Instrument, values: Values) -> dict[str, str]:
    names = (attribute.name for attribute in instrument.attributes)
    given = {name: value for name, value in zip(names, values, strict=True) if value}
    return {**instrument.constant, **given}
