"""/healthz, /readyz and /metrics."""

import json
import socket
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler

import pytest

from niyama.errors import ConfigurationError
from niyama.local.ports import free_port
from tests.support.metrics import metrics
from workers.health import LOOP_STALL_S, Health, LoopWatch, Server, serving

HOST = "127.0.0.1"
METRICS = metrics()


def _get(port: int, path: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_ready_means_engine_and_partitions_and_no_drain() -> None:
    health, port = Health(), free_port()
    with serving(health, METRICS, HOST, port):
        assert _get(port, "/healthz") == (200, {"status": "alive"})
        assert _get(port, "/readyz")[0] == 503
        health.engine = health.kafka = True
        status, parts = _get(port, "/readyz")
        assert (status, parts["ready"]) == (200, True)
        health.draining = True
        assert _get(port, "/readyz")[0] == 503
        assert _get(port, "/elsewhere")[0] == 404


def test_metrics_are_served_before_anything_is_ready() -> None:
    port = free_port()
    with (
        serving(Health(), METRICS, HOST, port),
        urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as response,
    ):
        assert response.headers["Content-Type"].startswith("text/plain")
        assert b"target_info{" in response.read()


def test_one_who_leaves_before_the_answer_is_not_logged_and_a_defect_is(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server((HOST, 0), BaseHTTPRequestHandler, bind_and_activate=False)
    for error in (BrokenPipeError(), ConnectionResetError(), TimeoutError(), KeyError("a defect")):
        try:
            raise error
        except Exception:
            server.handle_error(None, (HOST, 1))
    server.server_close()
    assert capfd.readouterr().err == ""
    assert caplog.messages == ["a request to the health port failed"]
    assert "a defect" in caplog.text


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=r"--health-port \(NIYAMA_HEALTH_PORT\)"),
            serving(Health(), METRICS, HOST, port),
        ):
            pass


def test_port_zero_serves_nothing() -> None:
    with serving(Health(), METRICS, "no such host", 0):
        pass


def test_a_stuck_event_loop_is_neither_alive_nor_ready_and_ends_the_process() -> None:
    health, port = Health(engine=True, kafka=True), free_port()
    ends: list[str] = []
    watch = LoopWatch(health, 60.0, ends.append)
    with serving(health, METRICS, HOST, port):
        for _ in range(int(LOOP_STALL_S)):
            watch.tick()
        assert _get(port, "/healthz")[0] == 200
        watch.tick()
        assert _get(port, "/healthz") == (503, {"status": "stuck"})
        assert _get(port, "/readyz")[0] == 503
        watch.beat()
        watch.tick()
        assert _get(port, "/healthz")[0] == _get(port, "/readyz")[0] == 200
    for _ in range(60):
        watch.tick()
    assert ends == ["the event loop has been stuck for 60 s"]
