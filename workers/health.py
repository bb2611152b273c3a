"""/healthz, /readyz and /metrics, answered by threads: loading a model blocks the loop.

Once a worker serves, nothing may block its event loop; another thread watches that.
"""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from niyama.ending import end_process
from niyama.errors import ConfigurationError
from niyama.telemetry.metrics import Metrics
from workers.engine.watchdog import TICK_S, Watchdog

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
LOOP_STALL_S = 10.0
"""The event loop is stuck when it has not turned for so long."""


@dataclass(slots=True)
class Health:
    """What is ready so far, as the parts of the worker report it."""

    engine: bool = False
    """The model is loaded and serves."""
    kafka: bool = False
    """The consumer group has given this worker its partitions."""
    draining: bool = False
    """No new jobs are taken."""
    stuck: bool = False
    """The event loop does not turn."""

    def partitions_assigned(self) -> None:
        self.kafka = True

    @property
    def ready(self) -> bool:
        return self.engine and self.kafka and not self.draining and not self.stuck


class LoopWatch:
    """A thread's view of the event loop: `beat` comes from the loop, `tick` from the thread."""

    def __init__(self, health: Health, limit_s: float, end: Callable[[str], None]) -> None:
        """`end` is called, with the reason, when the loop has not turned for `limit_s`."""
        self._health = health
        self._watchdog = Watchdog(limit_s)
        self._loop = self._watchdog.watch("the event loop")
        self._end = end

    def beat(self) -> None:
        self._loop.alive()

    def tick(self) -> None:
        hung = self._watchdog.tick()
        self._health.stuck = self._watchdog.silence_s > LOOP_STALL_S
        if hung is not None:
            self._end(f"{hung} has been stuck for {self._watchdog.limit_s:g} s")


@asynccontextmanager
async def watched_loop(health: Health, limit_s: float) -> AsyncIterator[None]:
    """Inside the context, /healthz fails while the event loop is stuck, and at `limit_s` this
    process ends: its supervisor starts another.
    """
    watch, left = LoopWatch(health, limit_s, end_process), threading.Event()

    async def beat() -> None:
        while True:
            watch.beat()
            await asyncio.sleep(TICK_S)

    def tick() -> None:
        while not left.wait(TICK_S):
            watch.tick()

    beating = asyncio.create_task(beat())
    threading.Thread(target=tick, name="loop-watch", daemon=True).start()
    try:
        yield
    finally:
        left.set()
        beating.cancel()


@contextmanager
def serving(health: Health, metrics: Metrics, host: str, port: int) -> Iterator[None]:
    """Serve both at `host:port` inside the context; port 0 serves nothing.

    Raises ConfigurationError when the address is unavailable.
    """
    if not port:
        yield
        return
    try:
        server = Server((host, port), _handler(health, metrics))
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve health at {host}:{port} ({error.strerror}): choose another "
            "--health-port (NIYAMA_HEALTH_PORT) or --health-host (NIYAMA_HEALTH_HOST)"
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    """The standard library's, with what fails in the log."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """One who leaves before the answer is nobody's concern; another error is a defect."""
        if not isinstance(sys.exception(), OSError):
            log.exception("a request to the health port failed")


def _handler(health: Health, metrics: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path == "/healthz":
                alive = not health.stuck
                status = "alive" if alive else "stuck"
                self._answer(200 if alive else 503, {"status": status})
            elif self.path == "/readyz":
                self._answer(200 if health.ready else 503, _parts(health))
            elif self.path == "/metrics":
                self._send(200, *metrics.text(self.headers.get("Accept")))
            else:
                self._answer(404, {"error": "not found; there are /healthz, /readyz and /metrics"})

        def _answer(self, status: int, content: dict[str, object]) -> None:
            self._send(status, json.dumps(content).encode(), "application/json")

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
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
