"""OpenTelemetry's own variables, as far as its SDK does not read them for us.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/. docs/traces.md says which are honoured.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from niyama.errors import ConfigurationError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SIGNALS = ("metrics", "traces")
HTTP = "http/protobuf"
NO_EFFECT = (
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)
"""Somebody who sets one of these is told that nothing comes of it."""
_INTERVALS: Mapping[str, tuple[str, Callable[[str], float]]] = {
    "metrics": ("OTEL_METRIC_EXPORT_INTERVAL", float),
    "traces": ("OTEL_BSP_SCHEDULE_DELAY", int),
}
"""How often each signal is sent, in milliseconds, and how the SDK reads it."""

Environment = Mapping[str, str]


def is_disabled(environment: Environment) -> bool:
    """Whether nothing is to be measured and traced."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def otlp_url(signal: str, base: str | None, environment: Environment) -> str | None:
    """Where to post "metrics" or "traces"; None: nowhere.

    The variable of the signal itself comes first, then `base` (Niyama's own setting), then the
    variable for all signals. Raises ValueError, which names the variable, for what cannot be done.
    """
    exporter = f"OTEL_{signal.upper()}_EXPORTER"
    kind = environment.get(exporter) or "otlp"
    if is_disabled(environment) or kind == "none":
        return None
    url = _url(signal, base, environment)
    if url is not None:
        if kind != "otlp":
            raise ValueError(f"{exporter}: must be otlp or none, not {kind!r}")
        _check_protocol(signal, environment)
        _check_interval(signal, environment)
    return url


def base_url(url: str) -> str:
    """`url` without a slash at its end. Raises ValueError unless paths can be added to it."""
    base = _http(url).rstrip("/")
    for signal in SIGNALS:
        if base.endswith(f"/v1/{signal}"):
            raise ValueError(f"must be without /v1/{signal}, which is added to it")
    return base


def ineffective(environment: Environment) -> list[str]:
    """The variables that are set, and of which nothing comes."""
    return [name for name in NO_EFFECT if environment.get(name)]


@contextmanager
def refused_as_configuration() -> Iterator[None]:
    """Inside, what the SDK does not take of its variables raises ConfigurationError, with the
    SDK's own sentence."""
    try:
        yield
    except ValueError as error:
        given = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
        raise ConfigurationError(
            f"OpenTelemetry does not start: {error} (variables that it reads: {given})"
        ) from error


def _url(signal: str, base: str | None, environment: Environment) -> str | None:
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if url := environment.get(own):
        return _named(own, _http, url)
    if base is None and (url := environment.get(ENDPOINT)):
        base = _named(ENDPOINT, base_url, url)
    return None if base is None else f"{base}/v1/{signal}"


def _http(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("must be a URL that begins with http:// or https://")
    return url


def _named(name: str, check: Callable[[str], str], url: str) -> str:
    try:
        return check(url)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _check_protocol(signal: str, environment: Environment) -> None:
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environment.get(name):
            if protocol != HTTP:
                raise ValueError(f"{name}: must be {HTTP}, not {protocol!r}")
            return


def _check_interval(signal: str, environment: Environment) -> None:
    name, number = _INTERVALS[signal]
    if given := environment.get(name):
        try:
            is_positive = number(given) > 0
        except ValueError:
            is_positive = False
        if not is_positive:
            raise ValueError(f"{name}: must be a positive number of milliseconds, not {given!r}")
