"""OpenTelemetry's own variables: honoured, or refused by their own names."""

import logging
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from niyama.errors import ConfigurationError
from niyama.telemetry.otel_environment import NO_EFFECT
from niyama.telemetry.resource import resource_of
from niyama.telemetry.settings import TelemetrySettings
from niyama.telemetry.telemetry import Telemetry
from niyama.telemetry.traces import Traces

ALL = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
BASE = "http://collector:4318"


@pytest.mark.parametrize(
    ("variables", "arguments", "traces", "metrics"),
    [
        ({}, [], None, None),
        ({ALL: f"{BASE}/"}, [], f"{BASE}/v1/traces", f"{BASE}/v1/metrics"),
        ({ALL: BASE}, ["--otlp-endpoint=http://x"], "http://x/v1/traces", "http://x/v1/metrics"),
        ({TRACES: "http://t/a"}, [], "http://t/a", None),
        ({TRACES: "http://t/a", ALL: BASE}, [], "http://t/a", f"{BASE}/v1/metrics"),
        ({TRACES: "http://t/a"}, ["--otlp-endpoint=http://x"], "http://t/a", "http://x/v1/metrics"),
        ({ALL: BASE, "OTEL_TRACES_EXPORTER": "none"}, [], None, f"{BASE}/v1/metrics"),
        ({ALL: "nonsense"}, ["--no-traces", "--no-metrics"], None, None),
        ({ALL: BASE, "OTEL_SDK_DISABLED": "True"}, [], None, None),
    ],
)
def test_where_metrics_and_traces_go(
    variables: dict[str, str],
    arguments: list[str],
    traces: str | None,
    metrics: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = TelemetrySettings.from_command_line(arguments, "x")
    assert (settings.otlp_url("traces"), settings.otlp_url("metrics")) == (traces, metrics)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (ALL, "collector:4317", "http://"),
        (ALL, f"{BASE}/v1/traces", "without /v1/traces"),
        (TRACES, "collector:4317", "http://"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_METRICS_EXPORTER", "console", "otlp or none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "positive"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "positive"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "a minute", "positive"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5", "positive"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0.5", "positive"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_variables_own_name(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALL, BASE)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"^{name}: .*{reason}"):
        TelemetrySettings.from_command_line([], "x")


def test_what_the_sdk_alone_refuses_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TelemetrySettings(otlp_endpoint=BASE)
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "abc")
    traces = Traces(Resource.get_empty(), settings.otlp_url("traces"))
    with pytest.raises(ConfigurationError, match="OTEL_ATTRIBUTE_COUNT_LIMIT must be"):
        traces.provider(ALWAYS_ON)
    traces.close()
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "some")
    with pytest.raises(ConfigurationError, match=r"'some'.*OTEL_METRICS_EXEMPLAR_FILTER"):
        Telemetry(settings, "niyama-test", "default")


def test_our_own_setting_is_a_base_too() -> None:
    with pytest.raises(ConfigurationError, match=r"^--otlp-endpoint .*without /v1/metrics"):
        TelemetrySettings.from_command_line([f"--otlp-endpoint={BASE}/v1/metrics"], "x")


def test_a_signals_own_protocol_goes_before_that_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALL, BASE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    for signal in ("TRACES", "METRICS"):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "http/protobuf")
    assert TelemetrySettings().otlp_url("traces") == f"{BASE}/v1/traces"


def test_a_disabled_sdk_measures_and_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    disabled = Telemetry(TelemetrySettings(otlp_endpoint=BASE), "niyama-test", "default")
    assert disabled.traces.processor is None
    assert disabled.metrics.text(None)[0] == b""
    disabled.close()


def test_the_environment_says_what_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,team=a%20b")
    attributes = resource_of("niyama-worker", "default").attributes
    assert attributes["service.name"] == "mine"
    assert attributes["service.instance.id"] == "pod-1"
    assert attributes["team"] == "a b"
    assert attributes["niyama.pool"] == "default"


def test_what_has_no_effect_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    Telemetry(TelemetrySettings(), "niyama-test", "default").close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "OTEL_TRACES_SAMPLER" in record.getMessage()


def test_the_documents_name_every_variable_without_effect() -> None:
    page = Path("docs/traces.md").read_text()
    assert [name for name in NO_EFFECT if f"`{name}`" not in page] == []
