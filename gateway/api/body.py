"""Reading the bodies of requests without trusting their size, their pace or their number."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.api.problems import RETRY_AFTER_S, ProblemError
from schemas.job import MAX_JOB_BYTES

MAX_READ_BYTES = 32 * MAX_JOB_BYTES
"""A client that is still sending when the connection closes may never see the answer, so up to
here the rest of a body that is too large is read and dropped."""
READ_TIMEOUT_S = 30.0
MAX_HELD_BYTES = 256 * MAX_JOB_BYTES
"""Of all requests that are being read or answered."""

_CLOSE = {"Connection": "close"}
"""What is left of the body is not read."""


class Bodies:
    """Reads the bodies of requests into a bounded memory."""

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._free_bytes = max_held_bytes

    @asynccontextmanager
    async def json(self, request: Request) -> AsyncIterator[bytes]:
        """The body, at most MAX_JOB_BYTES, for as long as it is needed.

        Raises ProblemError (400, 408, 413, 415, 503).
        """
        _check_type(request)
        body = bytearray()
        try:
            await self._fill(body, request)
            yield bytes(body)
        finally:
            self._free_bytes += len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                size_bytes = await self._read(body, request)
        except ClientDisconnect as gone:  # nobody reads the answer, and it is nobody's error
            detail = "the connection was closed before the job was complete"
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail) from gone
        except TimeoutError as late:
            detail = f"the job was not complete after {READ_TIMEOUT_S:.0f} s: send it faster"
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers=_CLOSE) from late
        if size_bytes > MAX_JOB_BYTES:
            detail = f"the job is larger than {MAX_JOB_BYTES:,} bytes: shorten its prompt"
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers=_CLOSE)

    async def _read(self, body: bytearray, request: Request) -> int:
        """Returns the size; the body is complete if that is at most MAX_JOB_BYTES."""
        size_bytes = 0
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes <= MAX_JOB_BYTES:
                self._take(len(chunk))
                body += chunk
            elif size_bytes > MAX_READ_BYTES:
                break
        return size_bytes

    def _take(self, count_bytes: int) -> None:
        if count_bytes > self._free_bytes:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the gateway is reading as many jobs as it has memory for; try again soon",
                kind="unavailable",
                headers={"Retry-After": str(RETRY_AFTER_S), **_CLOSE},
            )
        self._free_bytes -= count_bytes


def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send the job as application/json, not as {content_type}",
        )
