"""LoadReport v1: who serves what, how busy it is, and how far behind.

A worker replaces its report once a second. Nothing depends on a single one: any may be lost.
"""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, StringConstraints

from schemas.message import Message, Payload, UtcDatetime

MAX_LOAD_BYTES = 32 * 1024
"""A larger record is no report: gateways read all of them, and keep the last of each worker. One of
a thousand partitions of every topic, with the longest names that there can be, takes 24 KiB."""
MAX_PARTITIONS = 1_000
"""Of one topic, as many as Niyama creates; more are not listed."""
MAX_LABEL_CHARACTERS = 256
MAX_SECONDS = 1e8
"""Three years: what takes longer is reported as this."""
MAX_PER_S = 1e11
MAX_DEMAND = 1e8

_NEWER_FIELDS: Final = ConfigDict(extra="ignore")
"""What a newer worker reports beyond this is left out, so that old gateways still show it."""

Label = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=MAX_LABEL_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
"""A name that is shown to people, on a terminal too: no control characters."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Rate = Annotated[float, Field(ge=0, le=MAX_PER_S)]


class TopicShare(Payload):
    """What a worker has of one of its pool's job topics."""

    model_config = _NEWER_FIELDS

    topic: Label
    partitions: list[Count] = Field(max_length=MAX_PARTITIONS, fail_fast=True)
    """Those that it reads."""
    jobs: Count
    """Taken and not finished."""
    prompt_tokens: Count
    """Of these jobs; estimated until a prompt is tokenized."""
    paused: bool = False
    """It takes no more of them for now; the rest waits in Kafka."""
    lag: Count | None = None
    """Records in its partitions that it has not read, as of two seconds ago or so: they wait in
    Kafka. None: not known yet."""


class WorkerLimits(Payload):
    """What fits into a worker."""

    model_config = _NEWER_FIELDS

    context_tokens: Count | None = None
    """Of one request: its prompt and what it generates."""
    kv_tokens: Count | None = None
    """Of all requests that run, and the prefix cache."""
    interactive_jobs: Count
    """Taken from the interactive topic before it is paused."""
    batch_jobs: Count
    """Taken from the batch and relegated topics before they are paused."""


class Backlog(Payload):
    """Work of one kind that is due within some time, as the time that it takes this worker."""

    model_config = _NEWER_FIELDS

    kind: Label
    """Of quality of service: interactive, deadline, task or batch."""
    due_within_s: Seconds | None = None
    """None: whenever it is due."""
    work_s: Seconds
    """Prompts that wait or are computed, and their expected answers. What can no longer be met is
    not in it."""


class PredictedTtft(Payload):
    """When a chat that arrived now would have its first token."""

    model_config = _NEWER_FIELDS

    prompt_tokens: Count
    ttft_s: Seconds | None = None
    """None: it would be relegated, and wait until capacity is left."""


class SchedulerLoad(Payload):
    """What the scheduler has before it. With data-parallel replicas: counts and rates of all of
    them, times of the busiest."""

    model_config = _NEWER_FIELDS

    waiting: Count
    """Requests whose prefill has not started, and that can be met."""
    prefilling: Count
    """Requests whose prompts are computed or parked."""
    overdue: Count
    """Requests that can no longer be met: they wait until nothing else does."""
    demand: Annotated[float, Field(ge=0, le=MAX_DEMAND)]
    """How many workers like this one its work needs to be in time: the largest share of a second,
    of ten, of a minute, of ten or of an hour that the work due within it takes. Late work counts as
    due within ten seconds. Above 1 not every deadline can be met."""
    capacity_tokens_per_s: Rate
    """What a busy worker gets done, in prompt tokens: a generated one counts what it costs."""
    backlog: list[Backlog] = Field(default=[], max_length=32, fail_fast=True)
    """For each kind that there is work of, cumulative."""
    ttft: list[PredictedTtft] = Field(default=[], max_length=8, fail_fast=True)


class LoadReport(Message):
    """What one worker serves, and how busy it is. Its record replaces the worker's last one.

    A worker that ends in order deletes its report with an empty record; of one that died, the
    report stays for an hour.
    """

    model_config = _NEWER_FIELDS

    worker_id: Label
    pool: Label
    model: Label
    """The name by which jobs ask for it."""
    version: Label
    """Of Niyama."""
    started_at: UtcDatetime
    reported_at: UtcDatetime
    """By the worker's clock."""
    draining: bool = False
    """It takes no more jobs, and ends once those that run are done."""
    limits: WorkerLimits
    topics: list[TopicShare] = Field(default=[], max_length=8, fail_fast=True)
    running_decodes: Count = 0
    """Requests that are generating tokens."""
    prompt_tokens_per_s: Rate | None = None
    """Computed over the last second or so, without what the prefix cache had."""
    generated_tokens_per_s: Rate | None = None
    used_kv_tokens: Count | None = None
    """Of `limits.kv_tokens`, without what the prefix cache could give up."""
    scheduler: SchedulerLoad | None = None
    """None for an engine without Niyama's scheduler, or one that has not reported yet."""
