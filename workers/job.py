"""A job, decoded and with its deadlines resolved."""

from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from niyama.tracing.names import CHAT, TEXT_COMPLETION
from schemas import JobRequest, Kind, Qos
from workers.policy.qos import JOB_FIELDS, RequestQos, Task


@dataclass(frozen=True, slots=True)
class Job:
    """What to generate and by when; for this worker's model."""

    job_id: UUID
    request: JobRequest
    qos: RequestQos

    @property
    def operation(self) -> str:
        """`gen_ai.operation.name`."""
        return TEXT_COMPLETION if self.request.messages is None else CHAT

    @property
    def qos_class(self) -> str:
        """The name of its class; empty if it has targets of its own."""
        qos = self.request.qos
        return qos if isinstance(qos, str) else ""


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
