"""What compose.yaml says, without starting it."""

import json
from pathlib import Path
from typing import Any

import pytest

from niyama.local.kafka import broker_settings
from tests.compose.project import ComposeProject

# Where the broker listens and keeps its log differs between a container and a plain process.
OF_ITS_PLACE = {
    "advertised.listeners",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dirs",
}


def services(*options: str) -> dict[str, Any]:
    shown = ComposeProject().run(*options, "config", "--format", "json")
    found: dict[str, Any] = json.loads(shown)["services"]
    return found


def test_the_broker_is_set_up_as_it_is_without_docker() -> None:
    environment = services()["kafka"]["environment"]
    wanted = {
        "KAFKA_" + name.replace(".", "_").upper(): str(value)
        for name, value in broker_settings(0, 0, Path()).items()
        if name not in OF_ITS_PLACE
    }
    assert {name: environment.get(name) for name in wanted} == wanted


def test_the_gateway_is_as_patient_as_what_it_waits_for() -> None:
    """If not, it is unhealthy when Kafka or Postgres is back, and `up --wait` fails."""

    def patience(service: str) -> tuple[str, int]:
        check = found[service]["healthcheck"]
        return check["interval"], check["retries"]

    found = services()
    for other in ("kafka", "postgres"):
        assert patience("gateway")[0] == patience(other)[0]
        assert patience("gateway")[1] > patience(other)[1]


def test_the_gpu_profile_replaces_the_worker() -> None:
    found = services("--profile", "gpu")
    assert "worker" not in found
    [device] = found["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_ports_are_published_on_loopback_only(profile: str) -> None:
    found = services("--profile", profile).values()
    published = [port for service in found for port in service.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
