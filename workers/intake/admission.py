"""From a Kafka record to a job, or to the reason why it is not one."""

from dataclasses import dataclass

from niyama.kafka import ConsumedRecord
from schemas import JobError, QosCatalog, Refusal, decode_job
from schemas.decode import job_id_of_record
from schemas.qos import UnknownQosClassError
from workers.execution.job import Job, qos_of


@dataclass(frozen=True, slots=True)
class Admission:
    """Admits the jobs that this worker can serve."""

    model: str
    catalog: QosCatalog

    def admit(self, record: ConsumedRecord, now_s: float) -> Job | Refusal:
        """The job in a record read at `now_s` (UTC epoch seconds), or why there is none."""
        request = decode_job(record.value)
        if isinstance(request, Refusal):
            return request
        job_id = request.job_id or job_id_of_record(record.topic, record.partition, record.offset)
        if request.model != self.model:
            message = f"model {request.model!r} is not served by this pool, which has "
            return Refusal(JobError(code="wrong_model", message=f"{message}{self.model!r}"), job_id)
        try:
            targets = self.catalog.resolve(request.qos)
        except UnknownQosClassError as error:
            return Refusal(JobError(code="unknown_qos", message=str(error)), job_id)
        return Job(job_id, request, qos_of(request, targets, _arrival_s(record, now_s)))


def _arrival_s(record: ConsumedRecord, now_s: float) -> float:
    """The record's timestamp. One that is in the future, or missing (-1), counts as now."""
    published_s = record.timestamp / 1000
    return published_s if 0 <= published_s <= now_s else now_s
