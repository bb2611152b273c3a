"""/healthz and /readyz."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from niyama.errors import ConfigurationError
from niyama.local.ports import free_port
from workers.health import Health, serving

HOST = "127.0.0.1"


def _get(port: int, path: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_ready_means_engine_and_partitions_and_no_drain() -> None:
    health, port = Health(), free_port()
    with serving(health, HOST, port):
        assert _get(port, "/healthz") == (200, {"status": "alive"})
        assert _get(port, "/readyz")[0] == 503
        health.engine = health.kafka = True
        status, parts = _get(port, "/readyz")
        assert (status, parts["ready"]) == (200, True)
        health.draining = True
        assert _get(port, "/readyz")[0] == 503
        assert _get(port, "/elsewhere")[0] == 404


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=r"--health-port \(NIYAMA_HEALTH_PORT\)"),
            serving(Health(), HOST, port),
        ):
            pass


def test_port_zero_serves_nothing() -> None:
    with serving(Health(), "no such host", 0):
        pass
