"""Errors as RFC 9457 problem documents that say what to change."""

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.database import UNREACHABLE, is_outage
from schemas.document import Fault

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class FieldError(BaseModel):
    """One thing to change in a request."""

    where: str = Field(description="The field or parameter", examples=["qos"])
    message: str = Field(description="What is wrong with it")


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = "about:blank"
    """`about:blank`, or a `urn:niyama:` name for programs to act on."""
    title: str
    """The HTTP status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What happened, and what to do about it."""
    errors: list[FieldError] = []
    """Each thing to change, where there are several."""


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        kind: str | None = None,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:niyama:{kind}" if kind else "about:blank",
            title=status.phrase,
            status=status,
            detail=detail,
            errors=[FieldError(where=each.field, message=each.message) for each in errors],
        )
        self.headers = dict(headers or {})


def unprocessable(*errors: Fault, kind: str | None = None) -> ProblemError:
    """The request is understood, and `errors` are to be changed in it."""
    detail = "; ".join(map(str, errors))
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, kind=kind, errors=errors)


def unavailable(detail: str) -> ProblemError:
    """The request is fine and may be repeated after RETRY_AFTER_S seconds."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail,
        kind="unavailable",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def respond(error: ProblemError) -> Response:
    return Response(
        error.problem.model_dump_json(),
        status_code=error.problem.status,
        media_type=MEDIA_TYPE,
        headers=error.headers,
    )


def _method_not_allowed(request: Request) -> ProblemError:
    # Starlette names only the methods of a path's first route. The OpenAPI document has all.
    path = request.url.path
    allowed = {
        method.upper()
        for template, methods in request.app.openapi()["paths"].items()
        for method in methods
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
    }
    named = ", ".join(sorted(allowed)) or "GET"
    detail = f"{path} takes {named}, not {request.method}"
    return ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": named})


def _parameter(location: Sequence[str | int]) -> str:
    """The name in, for instance, `("query", "status", 0)`: the first value of `status`."""
    return [part for part in location if isinstance(part, str)][-1]


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> Response:
        return respond(error)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        detail = error.detail
        if status is HTTPStatus.NOT_FOUND:
            detail = f"there is nothing at {request.url.path}; /openapi.json lists what is there"
        elif status is HTTPStatus.METHOD_NOT_ALLOWED:
            return respond(_method_not_allowed(request))
        return respond(ProblemError(status, detail, headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> Response:
        faults = [Fault(_parameter(detail["loc"]), detail["msg"]) for detail in error.errors()]
        return respond(unprocessable(*faults))

    async def _without_database(request: Request, error: Exception) -> Response:
        if not is_outage(error):
            return await _unexpected(request, error)
        log.warning("the ledger's database does not answer: %r", error)
        return respond(unavailable("the ledger's database does not answer; try again soon"))

    for kind in UNREACHABLE:
        app.exception_handler(kind)(_without_database)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        detail = "an error in the gateway; its log says more"
        return respond(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail))
