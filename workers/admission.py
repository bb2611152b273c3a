"""From a Kafka record to a job, or to the reason why it is none."""

from dataclasses import dataclass
from typing import Any

from schemas import JobError, JobRequest, QosCatalog, Refusal, decode_job
from schemas.decode import job_id_of_record
from schemas.job import SamplingParameters
from schemas.qos import UnknownQosClassError
from workers.engine import EngineQos, GenerationRequest
from workers.job import Job, Record

_SAMPLING = tuple(name for name in SamplingParameters.model_fields if name != "response_format")


@dataclass(frozen=True, slots=True)
class Admission:
    """What this worker serves."""

    model: str
    catalog: QosCatalog

    def admit(self, record: Record, now_s: float) -> Job | Refusal:
        """The job in a record that arrived by ``now_s`` (UTC epoch seconds)."""
        request = decode_job(record.value)
        if isinstance(request, Refusal):
            return request
        job_id = request.job_id or job_id_of_record(record.topic, record.partition, record.offset)
        if request.model != self.model:
            message = f"model {request.model!r} is not served by this pool, which has "
            return Refusal(JobError(code="wrong_model", message=f"{message}{self.model!r}"), job_id)
        try:
            qos = self.catalog.resolve(request.qos)
        except UnknownQosClassError as error:
            return Refusal(JobError(code="unknown_qos", message=str(error)), job_id)
        return Job(job_id, request, qos, _arrival_s(record, now_s))


def _arrival_s(record: Record, now_s: float) -> float:
    """A job cannot have arrived in the future, nor before there were clocks (timestamp -1)."""
    published_s = record.timestamp / 1000
    return published_s if 0 <= published_s <= now_s else now_s


def generation_request(job: Job, request_id: str) -> GenerationRequest:
    """The job in the engine's terms."""
    request = job.request
    return GenerationRequest(
        request_id=request_id,
        qos=_engine_qos(job),
        messages=_messages(request),
        prompt=request.prompt,
        input_ids=request.input_ids,
        sampling=_sampling(request),
        stream=request.stream,
    )


def _engine_qos(job: Job) -> EngineQos:
    target_s = job.qos.ttlt_s if job.qos.ttft_s is None else job.qos.ttft_s
    assert target_s is not None
    expire_after_s = job.request.expire_after_s
    return EngineQos(
        arrival_s=job.arrived_s,
        deadline_s=job.arrived_s + target_s,
        tbt_s=job.qos.tbt_s,
        importance=job.request.importance,
        tenant=job.request.tenant,
        app=job.request.application or "",
        expires_s=None if expire_after_s is None else job.arrived_s + expire_after_s,
    )


def _messages(request: JobRequest) -> list[dict[str, Any]] | None:
    if request.messages is None:
        return None
    return [message.model_dump(exclude_none=True) for message in request.messages]


def _sampling(request: JobRequest) -> dict[str, Any]:
    sampling = {name: getattr(request, name) for name in _SAMPLING}
    if request.response_format is not None:
        sampling["response_format"] = request.response_format.model_dump(
            exclude_none=True, by_alias=True
        )
    return sampling
