"""What the OpenAPI document says beyond what FastAPI derives from the endpoints."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api.problems import MEDIA_TYPE, Problem
from schemas import JobRequest

REFERENCE = "#/components/schemas/{model}"

Responses = dict[int | str, dict[str, Any]]

JOB_EXAMPLES = {
    "chat": {
        "summary": "A chat: the first token within a second, then one every 100 ms",
        "value": {
            "model": "niyama-tiny",
            "messages": [{"role": "user", "content": "Hello"}],
            "qos": "chat",
            "max_tokens": 64,
        },
    },
    "batch": {
        "summary": "Batch work, due in ten minutes",
        "value": {
            "model": "niyama-tiny",
            "prompt": "Summarise: ...",
            "qos": {"ttlt_s": 600},
        },
    },
}


def job_body() -> dict[str, Any]:
    """The body of a submission, which FastAPI does not see: the endpoint bounds its size."""
    schema = {"$ref": REFERENCE.format(model="JobRequest")}
    content = {"application/json": {"schema": schema, "examples": JOB_EXAMPLES}}
    return {"requestBody": {"required": True, "content": content}}


def responses(*problems: int, ok: str = "", model: type[BaseModel] | None = None) -> Responses:
    """Statuses with problem documents and, when `model` is given, a 200 described by `ok`."""
    schema = {"$ref": REFERENCE.format(model="Problem")}
    documents: Responses = {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in problems
    }
    return documents if model is None else {200: {"model": model, "description": ok}, **documents}


def install(app: FastAPI) -> None:
    """Make `app` serve the whole document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, own = models_json_schema(
        [(JobRequest, "validation"), (Problem, "serialization")], ref_template=REFERENCE
    )
    document["components"]["schemas"] |= own["$defs"]
    return document
