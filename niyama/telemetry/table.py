"""Every instrument as Markdown, for docs/metrics.md: `python -m niyama.telemetry.table`."""

from collections.abc import Iterable
from types import ModuleType

from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from niyama.telemetry.instrument import Attribute, Instrument, Kind
from niyama.telemetry.instruments import gateway, shared, worker
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.metrics import Metrics

_PARTS = {"Workers": worker, "Gateways": gateway, "Both": shared}


def declared() -> list[Instrument]:
    """All instruments, in their order."""
    return [each for part in _PARTS.values() for each in _of(part)]


def exposed_name(instrument: Instrument) -> str:
    """Its name for Prometheus, as the exporter makes it: with unit, and `_total`."""
    measurements = Measurements()
    values = ("x",) * len(instrument.attributes)
    if instrument.kind is Kind.HISTOGRAM:
        measurements.histogram(instrument).record(1.0, *values)
    else:
        measurements.observe(instrument, lambda: [(1.0, values)])
    text, _ = Metrics(measurements, Resource({})).text(None)
    (line,) = (
        line
        for line in text.decode().splitlines()
        if line.startswith("# TYPE ") and not line.startswith("# TYPE target_info ")
    )
    return line.split()[2]


def of_faststream() -> list[Metric]:
    """The metrics that FastStream's middleware makes in a gateway, without values."""
    registry = CollectorRegistry()
    KafkaPrometheusMiddleware(registry=registry)
    return list(registry.collect())


def table() -> str:
    """The instruments of each process, below them their attributes, and FastStream's metrics."""
    parts = [f"### {name}\n\n{_instruments(part)}" for name, part in _PARTS.items()]
    return "\n\n".join([*parts, f"### Labels\n\n{_attributes()}", f"{_faststream()}\n"])


def _of(part: ModuleType) -> list[Instrument]:
    return [each for each in vars(part).values() if isinstance(each, Instrument)]


def _instruments(part: ModuleType) -> str:
    rows = (
        f"| `{each.name}` | `{exposed_name(each)}` | {each.kind} | {_labels(each)} | "
        f"{each.description} |"
        for each in _of(part)
    )
    return _lines("| OpenTelemetry | Prometheus | | Labels | |\n|---|---|---|---|---|", rows)


def _labels(instrument: Instrument) -> str:
    return ", ".join(f"`{_label(attribute.name)}`" for attribute in instrument.attributes)


def _attributes() -> str:
    used: dict[str, Attribute] = {
        attribute.name: attribute
        for instrument in declared()
        for attribute in instrument.attributes
    }
    rows = (
        f"| `{each.name}` | `{_label(each.name)}` | {each.description} |" for each in used.values()
    )
    return _lines("| Attribute | Label | |\n|---|---|---|", rows)


def _faststream() -> str:
    names = (
        (f"{each.name}_total" if each.type == "counter" else each.name, each)
        for each in of_faststream()
    )
    rows = (f"| `{name}` | {each.type} | {each.documentation} |" for name, each in names)
    return _lines("| FastStream's, in a gateway | | |\n|---|---|---|", rows)


def _label(name: str) -> str:
    return name.replace(".", "_")


def _lines(head: str, rows: Iterable[str]) -> str:
    return "\n".join([head, *rows])


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201
