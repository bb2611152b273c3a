"""The ledger's tables. `docs/ledger.md` says how their rows come about."""

from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, UUID

from schemas import JobStatus, JobTimes, Kind

metadata = MetaData()
Time = DateTime(timezone=True)


class KindText(TypeDecorator[Kind]):
    """A kind, stored as text."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> Kind | None:
        return None if value is None else Kind(value)


class Times(TypeDecorator[JobTimes]):
    """Where a job's time went, stored as JSON. None, too, where a newer version has written parts
    that this one does not know: a sum without them would be wrong."""

    impl = JSONB
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> JobTimes | None:
        with suppress(ValidationError):
            return None if value is None else JobTimes.model_validate(value)
        return None


# In Postgres, too, the later of two statuses is the greater.
JOB_STATUS = ENUM(
    JobStatus,
    values_callable=lambda statuses: [status.value for status in statuses],
    name="job_status",
    metadata=metadata,
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("status", JOB_STATUS, nullable=False),
    # The request. All null but its source while only events are known of the job.
    Column("arrived_at", Time),
    Column("pool", Text),
    Column("model", Text),
    Column("tenant", Text),
    Column("application", Text),
    Column("importance", Text),
    Column("qos_class", Text, comment="null: the job gave explicit targets"),
    Column("kind", KindText, comment="interactive, deadline, task or batch"),
    Column("ttft_s", Double),
    Column("tbt_s", Double),
    Column("ttlt_s", Double),
    Column("deadline_at", Time, comment="of the first token (interactive) or the last (others)"),
    Column("task_id", Text, comment="null: no call of a task"),
    Column("task_call", Integer),
    Column("task_calls_left", Integer),
    Column("expire_after_s", Double, comment="null: served however late"),
    Column("max_tokens", Integer),
    Column("stream", Boolean),
    Column("reply_topic", Text),
    Column("metadata", JSONB),
    # Where its record is. Known with the first event, if that comes before the record.
    Column("source_topic", Text),
    Column("source_partition", Integer),
    Column("source_offset", BigInteger),
    Column("request_sha256", LargeBinary, comment="of the record's value"),
    # The attempt that ended the job, or else the newest.
    Column("attempt", Integer, nullable=False, comment="0: no worker has taken the job"),
    Column("worker_id", Text),
    Column("admitted_at", Time),
    Column("started_at", Time),
    Column("first_token_at", Time),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("largest_gap_ms", Double),
    # The outcome. All null while the job is open, and never changed afterwards.
    Column("finished_at", Time),
    Column("terminal_event_id", UUID),
    Column("finish_reason", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("outcome_reason", Text, comment="why it was cancelled or expired"),
    Column("times", Times, comment="where the time went; null: nobody has said"),
    Column("trace_id", Text, comment="of its trace; null: none was kept"),
    # On the way.
    Column("cancel_requested_at", Time),
    Column("abandoned_at", Time, comment="since when no worker will report on it, though open"),
    Column(
        "reply_dropped_at",
        Time,
        comment="when an operator dropped its reply, which was undeliverable",
    ),
    Column("relegated_at", Time, comment="last time"),
    Column("restored_at", Time, comment="last time"),
    Column("relegations", Integer, nullable=False),
    Column("parks", Integer, nullable=False),
    Column("terminal_events", Integer, nullable=False, comment="above 1: duplicates"),
    Column("newest_attempt", Integer, nullable=False, server_default=text("0")),
    # "What was published recently": of all jobs, of a tenant, of a class.
    Index("jobs_by_arrival", "arrived_at", "job_id"),
    Index("jobs_of_tenant", "tenant", "arrived_at", "job_id"),
    Index("jobs_of_class", "qos_class", "arrived_at", "job_id"),
    # Completed jobs are most of all jobs, so a list of them needs no index of its own.
    Index(
        "jobs_by_status",
        *("status", "arrived_at", "job_id"),
        postgresql_where=text("status <> 'completed'"),
    ),
    Index(
        "jobs_open_by_source",
        *("source_topic", "source_partition", "source_offset"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index(
        "jobs_to_cancel",
        "job_id",
        postgresql_where=text("status = 'queued' AND cancel_requested_at IS NOT NULL"),
    ),
    Index(
        "jobs_open_by_deadline",
        *("deadline_at", "job_id"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", UUID, nullable=False),
    Column("at", Time, nullable=False),
    Column("event_id", UUID, nullable=False),
    Column("type", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("reason", Text),
    Column("prediction", JSONB),
    # Starts with the job, so that one index finds a job's history and refuses a second
    # delivery of an event; `at` is in it because the table is partitioned by it.
    PrimaryKeyConstraint("job_id", "at", "event_id"),
    postgresql_partition_by="RANGE (at)",
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("text", Text, nullable=False),
    Column("token_ids", ARRAY(Integer)),
    Column("logprobs", JSONB),
)

reply_outbox = Table(
    "reply_outbox",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("reply_topic", Text, comment="null: held until the job's record is known"),
    Column("value", LargeBinary, nullable=False, comment="the terminal event, byte for byte"),
    Column("headers", JSONB, nullable=False, comment="its trace context, as [name, value] pairs"),
    Column(
        "written_at",
        Time,
        nullable=False,
        server_default=text("now()"),
        comment="or when an operator last asked to try it again",
    ),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_try_at", Time, nullable=False, server_default=text("now()")),
    Column("error", Text, comment="why the last attempt failed"),
    Column("failing_since", Time, comment="when this reply, not its topic, failed first"),
    Column("undeliverable_at", Time, comment="when it was given up; null: it will be tried"),
    Index(
        "reply_outbox_due",
        *("reply_topic", "next_try_at", "job_id"),
        postgresql_where=text("reply_topic IS NOT NULL AND undeliverable_at IS NULL"),
    ),
    Index(
        "reply_outbox_undeliverable",
        *("undeliverable_at", "job_id"),
        postgresql_where=text("undeliverable_at IS NOT NULL"),
    ),
)

failing_reply_topics = Table(
    "failing_reply_topics",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("failing_since", Time, nullable=False, server_default=text("now()")),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", Time, nullable=False),
    Column("error", Text, nullable=False, comment="why the last attempt failed"),
)

replies_sent = Table(
    "replies_sent",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("noted_at", Time, nullable=False, server_default=text("now()")),
    comment="replies that Kafka says were sent, of jobs whose end is not in this database yet",
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", UUID, nullable=False),
    Column("expires_at", Time, nullable=False),
)

gateway_secrets = Table(
    "gateway_secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

ledger_offsets = Table(
    "ledger_offsets",
    metadata,
    Column("topic", Text),
    Column("partition", Integer, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False, comment="of the first record not in here"),
    PrimaryKeyConstraint("topic", "partition"),
)

periodic_tasks = Table(
    "periodic_tasks",
    metadata,
    Column("task", Text, primary_key=True),
    Column("next_run_at", Time, nullable=False, comment="one gateway at a time moves it on"),
)
