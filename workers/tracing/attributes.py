"""What the spans of a job say."""

from opentelemetry.util.types import AttributeValue

from niyama.tracing import names
from niyama.utc import utc
from schemas import JobTimes
from workers.engine.port import PrefillChunk
from workers.job import Job
from workers.policy.decision import Decision
from workers.policy.qos import RequestQos
from workers.tracing.job_trace import Ending, JobTrace


def of_record(trace: JobTrace, group: str) -> dict[str, AttributeValue]:
    record = trace.record
    found: dict[str, AttributeValue] = {
        names.MESSAGING_SYSTEM: names.KAFKA,
        names.MESSAGING_OPERATION_NAME: names.PROCESS,
        names.MESSAGING_OPERATION_TYPE: names.PROCESS,
        names.MESSAGING_DESTINATION_NAME: record.topic,
        names.MESSAGING_DESTINATION_PARTITION_ID: str(record.partition),
        names.MESSAGING_CONSUMER_GROUP_NAME: group,
        names.MESSAGING_KAFKA_OFFSET: record.offset,
        names.MESSAGING_MESSAGE_BODY_SIZE: len(record.value or b""),
        names.JOB_ATTEMPT: trace.attempt,
    }
    if trace.job_id is not None:
        found[names.MESSAGING_MESSAGE_CONVERSATION_ID] = str(trace.job_id)
    return found


def of_job(qos: RequestQos, taken_s: float) -> dict[str, AttributeValue]:
    return {
        names.QOS_KIND: str(qos.kind),
        names.IMPORTANCE: qos.importance,
        names.TENANT: qos.tenant,
        names.JOB_ARRIVED_AT: _rfc3339(qos.arrival_s),
        names.JOB_DEADLINE_AT: _rfc3339(qos.deadline_s),
        names.TOPIC_WAIT: taken_s - qos.arrival_s,
    }


def of_generation(job: Job, ending: Ending) -> dict[str, AttributeValue]:
    usage = ending.usage
    found: dict[str, AttributeValue] = {
        names.GEN_AI_OPERATION_NAME: job.operation,
        names.GEN_AI_PROVIDER_NAME: names.SGLANG,
        names.GEN_AI_REQUEST_MODEL: job.request.model,
        names.GEN_AI_REQUEST_MAX_TOKENS: job.request.max_tokens,
        names.SLACK: job.qos.deadline_s - ending.at_s,
    }
    if usage is not None:
        found[names.GEN_AI_USAGE_INPUT_TOKENS] = usage.prompt_tokens
        found[names.GEN_AI_USAGE_OUTPUT_TOKENS] = usage.completion_tokens
        found[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = usage.cached_tokens
    if ending.finish_reason is not None:
        found[names.GEN_AI_RESPONSE_FINISH_REASONS] = (ending.finish_reason,)
    if ending.largest_gap_ms is not None:
        found[names.LARGEST_GAP] = ending.largest_gap_ms / 1000
    return found


def of_times(times: JobTimes | None) -> dict[str, AttributeValue]:
    """Where the job's time went, in seconds; parts that took none are left out."""
    found: dict[str, AttributeValue] = {}
    for stage in ("until_first_token", "until_end"):
        if (parts := getattr(times, stage, None)) is not None:
            for name, part_s in parts.model_dump(exclude_none=True).items():
                found[f"{names.TIME}.{stage}.{name.removesuffix('_s')}"] = part_s
    return found


def of_decision(decision: Decision, deadline_s: float) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {names.SLACK: deadline_s - decision.at_s}
    if decision.reason:
        found[names.REASON] = decision.reason
    if decision.forecast is not None:
        found[names.FORECAST_QUEUE_WAIT] = decision.forecast.queue_wait_s
        found[names.FORECAST_SLACK] = deadline_s - decision.forecast.finish_s
    return found


def of_chunk(chunk: PrefillChunk) -> dict[str, AttributeValue]:
    return {
        names.CHUNK_TOKENS: chunk.tokens,
        names.ITERATION: chunk.iteration,
        names.ITERATION_PREDICTED: chunk.predicted_s,
    }


def _rfc3339(epoch_s: float) -> str:
    at = utc(epoch_s)
    return "" if at is None else at.isoformat(timespec="milliseconds")
