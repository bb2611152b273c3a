"""A real OpenTelemetry Collector, and what it passes on."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from niyama.local.ports import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "otel-collector.sh"
PATIENCE_S = 120.0

CONFIGURATION = """
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{port}
exporters:
  otlp_http:
    endpoint: {sink}
    encoding: json
    compression: none
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [otlp_http]
    metrics:
      receivers: [otlp]
      exporters: [otlp_http]
"""


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as OTLP's JSON has it."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]


@dataclass
class RunningCollector:
    """Where it takes OTLP over HTTP, and the spans and metric names that came out of it."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    metric_names: set[str] = field(default_factory=set)

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            names = [f"{span.service}: {span.name}" for span in self.spans]
            assert time.monotonic() < end_s, f"{what}; there is {names}"
            time.sleep(0.1)

    def take(self, path: str, body: bytes) -> None:
        """A request that the collector has made."""
        document = json.loads(body)
        if path == "/v1/metrics":
            for resource in document["resourceMetrics"]:
                for scope in resource["scopeMetrics"]:
                    self.metric_names |= {metric["name"] for metric in scope["metrics"]}
            return
        for resource in document["resourceSpans"]:
            service = _attributes(resource["resource"])["service.name"]
            for scope in resource["scopeSpans"]:
                self.spans += [_span(service, span) for span in scope["spans"]]


@contextmanager
def otel_collector(folder: Path) -> Iterator[RunningCollector]:
    """Build it if need be, and run it."""
    binary = subprocess.run([SCRIPT], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    port = free_port()
    running = RunningCollector(f"http://127.0.0.1:{port}")
    with _sink(running) as sink, (folder / "collector.log").open("wb") as log:
        configuration = folder / "collector.yaml"
        configuration.write_text(CONFIGURATION.format(port=port, sink=sink))
        process = subprocess.Popen([binary, "--config", configuration], stdout=log, stderr=log)
        try:
            _wait_for(running.endpoint, process)
            yield running
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@contextmanager
def _sink(running: RunningCollector) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            running.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _wait_for(endpoint: str, process: "subprocess.Popen[bytes]") -> None:
    end_s = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, "the collector has ended; see collector.log"
        assert time.monotonic() < end_s, "the collector does not answer"
        try:
            httpx.post(f"{endpoint}/v1/traces", json={})
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return


def _span(service: str, span: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        service,
        span["name"],
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        _attributes(span),
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as text where OTLP's JSON has 64 bits."""
    return {
        each["key"]: next(iter(each["value"].values())) for each in holder.get("attributes", ())
    }
