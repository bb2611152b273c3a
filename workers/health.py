"""/healthz and /readyz, answered by a thread: loading a model blocks the event loop for minutes."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from niyama.errors import ConfigurationError

REQUEST_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Health:
    """What is ready so far, as the parts of the worker report it."""

    engine: bool = False
    """The model is loaded and serves."""
    kafka: bool = False
    """The consumer group has given this worker its partitions."""
    draining: bool = False
    """No new jobs are taken."""

    def partitions_assigned(self) -> None:
        self.kafka = True

    @property
    def ready(self) -> bool:
        return self.engine and self.kafka and not self.draining


@contextmanager
def serving(health: Health, host: str, port: int) -> Iterator[None]:
    """Serve `health` at `host:port` inside the context; port 0 serves nothing.

    Raises ConfigurationError when the address is unavailable.
    """
    if not port:
        yield
        return
    try:
        server = ThreadingHTTPServer((host, port), _handler(health))
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve health at {host}:{port} ({error.strerror}): choose another "
            "--health-port (NIYAMA_HEALTH_PORT) or --health-host (NIYAMA_HEALTH_HOST)"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, {"status": "alive"})
            elif self.path == "/readyz":
                self._answer(200 if health.ready else 503, _parts(health))
            else:
                self._answer(404, {"error": "not found; there are /healthz and /readyz"})

        def _answer(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes arrive every few seconds: they are not logged."""

    return Handler


def _parts(health: Health) -> dict[str, object]:
    return {
        "ready": health.ready,
        "engine": health.engine,
        "kafka": health.kafka,
        "draining": health.draining,
    }
