"""How long requests take, by route and status."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from niyama.telemetry.instruments import gateway as instruments
from niyama.telemetry.measurements import Measurements

METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
OTHER_METHOD = "_OTHER"
"""OpenTelemetry's name for all others: clients may make them up."""

INTERNAL_ERROR = "500"
"""What Starlette answers, outside of all middleware, where an exception came before an answer."""


class RequestMetrics:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        measurements: Measurements,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._durations = measurements.histogram(instruments.HTTP_DURATION)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started_s = "", self._clock()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = status or INTERNAL_ERROR
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
            route = getattr(scope.get("route"), "path", "")
            self._durations.record(self._clock() - started_s, method, route, status)
