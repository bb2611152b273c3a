"""Reading a request's body without trusting its size."""

from http import HTTPStatus

from fastapi import Request

from gateway.api.problems import ProblemError
from schemas.job import MAX_JOB_BYTES


async def read_json_body(request: Request) -> bytes:
    """The body, at most MAX_JOB_BYTES. Raises ProblemError (413, 415)."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send the job as application/json, not as {content_type}",
        )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_JOB_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JOB_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the job is larger than {MAX_JOB_BYTES:,} bytes: shorten its prompt",
        # The rest of the body is not read, so the connection cannot serve another request.
        headers={"Connection": "close"},
    )
