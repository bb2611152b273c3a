"""Reading a request's body without trusting its size."""

from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.api.problems import ProblemError
from schemas.job import MAX_JOB_BYTES

MAX_READ_BYTES = 32 * MAX_JOB_BYTES
"""A client that is still sending when the connection closes may never see the answer, so up to
here the rest of a body that is too large is read and dropped."""


async def read_json_body(request: Request) -> bytes:
    """The body, at most MAX_JOB_BYTES. Raises ProblemError (400, 413, 415)."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send the job as application/json, not as {content_type}",
        )
    try:
        body = await _read(request)
    except ClientDisconnect as gone:  # nobody reads the answer, and it is nobody's error
        detail = "the connection was closed before the job was complete"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail) from gone
    if body is None:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the job is larger than {MAX_JOB_BYTES:,} bytes: shorten its prompt",
            headers={"Connection": "close"},
        )
    return body


async def _read(request: Request) -> bytes | None:
    """None: it is larger than MAX_JOB_BYTES. Raises ClientDisconnect."""
    body = bytearray()
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes <= MAX_JOB_BYTES:
            body += chunk
        elif size_bytes > MAX_READ_BYTES:
            break
    return bytes(body) if size_bytes <= MAX_JOB_BYTES else None
