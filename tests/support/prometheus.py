"""A real Prometheus that scrapes a stack, and its linter."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from niyama.local.ports import free_port
from niyama.local.process import Child

SCRIPT = Path(__file__).parents[2] / "scripts" / "prometheus.sh"


def tools() -> Path:
    """The folder of prometheus and promtool."""
    found = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=300, check=True)
    return Path(found.stdout.strip())


def complaints(exposition: bytes) -> str:
    """What `promtool check metrics` says of a scrape's text; nothing if it is content."""
    checked = subprocess.run(
        [tools() / "promtool", "check", "metrics"],
        input=exposition,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return checked.stdout.decode() or ("" if checked.returncode == 0 else "it failed")


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def value(self, query: str) -> float | None:
        """The sum of the instant vector that `query` gives; None: nothing yet."""
        try:
            answer = httpx.get(f"{self._url}/api/v1/query", params={"query": f"sum({query})"})
        except httpx.TransportError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        found = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus(folder: Path, *targets: str) -> Iterator[Prometheus]:
    """One that scrapes `targets` (host:port) every second."""
    config, port = folder / "prometheus.yml", free_port()
    listed = ", ".join(f'"{target}"' for target in targets)
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: niyama, static_configs: [{{targets: [{listed}]}}]}}]\n"
    )
    argv = [
        str(tools() / "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    child = Child("prometheus", argv, log_path=folder / "prometheus.log")
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        child.kill()
