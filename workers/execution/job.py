"""A job, decoded and with its deadlines resolved."""

from dataclasses import dataclass
from typing import Any, assert_never
from uuid import UUID

from niyama.tracing.names import CHAT, TEXT_COMPLETION
from schemas import JobRequest, Kind, Qos
from schemas.job import ResponseFormat, SamplingParameters
from workers.engine.port import GenerationRequest
from workers.policy.qos import JOB_FIELDS, RequestQos, Task
from workers.tracing.job_trace import JobFacts

_SAMPLING = tuple(name for name in SamplingParameters.model_fields if name != "response_format")


@dataclass(frozen=True, slots=True)
class Job:
    """What to generate and by when; for this worker's model."""

    job_id: UUID
    request: JobRequest
    qos: RequestQos


def qos_of(request: JobRequest, targets: Qos, arrived_s: float) -> RequestQos:
    """The scheduler's view of a job that arrived at `arrived_s` (UTC epoch seconds)."""
    fields = {name: getattr(request, name) for name in JOB_FIELDS}
    owner = {name: value for name, value in fields.items() if value is not None}
    match targets.kind:
        case Kind.INTERACTIVE:
            assert targets.ttft_s is not None
            assert targets.tbt_s is not None
            return RequestQos.interactive(
                arrived_s, ttft_s=targets.ttft_s, tbt_s=targets.tbt_s, **owner
            )
        case Kind.DEADLINE:
            assert targets.ttlt_s is not None
            return RequestQos.deadline(arrived_s, ttlt_s=targets.ttlt_s, **owner)
        case Kind.TASK:
            assert targets.task is not None
            task = Task(targets.task.id, targets.task.call, targets.task.calls_left)
            deadline_s = targets.task.deadline.timestamp()
            return RequestQos.call(arrived_s, task=task, deadline_s=deadline_s, **owner)
        case Kind.BATCH:
            assert targets.ttlt_s is not None
            return RequestQos.batch(arrived_s, ttlt_s=targets.ttlt_s, **owner)
        case other:
            assert_never(other)


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


def job_facts(job: Job) -> JobFacts:
    """What the job's trace says of it."""
    request = job.request
    operation = TEXT_COMPLETION if request.messages is None else CHAT
    return JobFacts(request.model, operation, request.max_tokens, job.qos)


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
