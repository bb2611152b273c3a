"""From a job to a request to the engine."""

from typing import Any

from schemas import JobRequest
from schemas.job import ResponseFormat, SamplingParameters
from workers.engine.port import GenerationRequest
from workers.job import Job

_SAMPLING = tuple(name for name in SamplingParameters.model_fields if name != "response_format")


def generation_request(
    job: Job, request_id: str, traceparent: str | None = None
) -> GenerationRequest:
    """The job as a request to the engine."""
    request = job.request
    return GenerationRequest(
        request_id=request_id,
        qos=job.qos,
        messages=_messages(request),
        prompt=request.prompt,
        input_ids=request.input_ids,
        sampling=_sampling(request),
        stream=request.stream,
        traceparent=traceparent,
    )


def _messages(request: JobRequest) -> list[dict[str, Any]] | None:
    if request.messages is None:
        return None
    dumped: list[dict[str, Any]] = request.model_dump(include={"messages"}, exclude_none=True)[
        "messages"
    ]
    return dumped


def _sampling(request: JobRequest) -> dict[str, Any]:
    sampling = {name: getattr(request, name) for name in _SAMPLING}
    if request.response_format is not None:
        sampling["response_format"] = _response_format(request.response_format)
    return sampling


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    """In OpenAI's form, with the schema itself and not a copy: it may be large."""
    if (named := wanted.json_schema) is None:
        return {"type": wanted.type}
    described = named.model_dump(exclude={"schema_"}, exclude_none=True)
    return {"type": wanted.type, "json_schema": described | {"schema": named.schema_}}
