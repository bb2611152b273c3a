"""From a Kafka record to a job, or to the reason why it is not one."""

from dataclasses import dataclass

from niyama.kafka import ConsumedRecord
from schemas import JobError, QosCatalog, Refusal, decode_job
from schemas.arrival import arrival_ms
from schemas.decode import job_id_of_record
from schemas.qos import UnknownQosClassError
from workers.job import Job, qos_of


@dataclass(frozen=True, slots=True)
class Admission:
    """Admits the jobs that this worker can serve."""

    model: str
    catalog: QosCatalog

    def admit(self, record: ConsumedRecord, now_s: float) -> Job | Refusal:
        """The job in a record read at `now_s` (UTC epoch seconds), or why there is none."""
        request = decode_job(record.value)
        place = (record.topic, record.partition, record.offset)
        if isinstance(request, Refusal):
            return request.at(*place)
        job_id = request.job_id or job_id_of_record(*place)
        if request.model != self.model:
            message = f"model {request.model!r} is not served by this pool, which has "
            return Refusal(JobError(code="wrong_model", message=f"{message}{self.model!r}"), job_id)
        try:
            targets = self.catalog.resolve(request.qos)
        except UnknownQosClassError as error:
            return Refusal(JobError(code="unknown_qos", message=str(error)), job_id)
        arrived_s = arrival_ms(record.timestamp, read_at_ms=int(now_s * 1000)) / 1000
        return Job(job_id, request, qos_of(request, targets, arrived_s))
