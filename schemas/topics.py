"""Every topic: its name, its settings, its key. Nothing else in the project spells these."""

from dataclasses import dataclass
from typing import Literal, Self
from uuid import UUID

from schemas.qos import DAY_S, Kind

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""What a topic carries. Larger than any valid job, so that oversized ones can be answered."""
MAX_VALUE_BYTES = MAX_RECORD_BYTES - 64 * 1024
"""The largest value that we put into a record: leaves room for key, headers and overhead."""
LOAD_RECORD_BYTES = 128 * 1024
LOAD_SEGMENT_BYTES = 4 * 1024 * 1024


def record_key(job_id: UUID) -> bytes:
    """The key of the records of a job: they stay in order."""
    return str(job_id).encode()


def worker_key(pool: str, worker_id: str) -> bytes:
    """The key of a worker's reports: each replaces the one before it."""
    return f"{pool}/{worker_id}".encode()


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is created when missing. An existing topic keeps its settings."""

    name: str
    partitions: int
    retention_s: int
    description: str
    cleanup_policy: str = "delete"
    timestamps: Literal["CreateTime", "LogAppendTime"] = "LogAppendTime"
    """Whose clock: the producer's or the broker's. By the broker's, which also decides what it
    keeps, no record is refused for a clock that is wrong, and none is kept for years."""
    max_record_bytes: int = MAX_RECORD_BYTES
    segment_bytes: int | None = None
    """The newest segment of a log is never compacted. None: the broker's default, a gigabyte."""

    def configs(self) -> dict[str, str]:
        """The broker's topic settings."""
        configs = {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(self.retention_s * 1000),
            "max.message.bytes": str(self.max_record_bytes),
            "message.timestamp.type": self.timestamps,
        }
        if self.segment_bytes is not None:
            configs["segment.bytes"] = str(self.segment_bytes)
        return configs


@dataclass(frozen=True, slots=True)
class PoolTopics:
    """The topics of one pool (the replicas that serve one model), and the shared ones.

    Job topics, `events`, `tokens` and `control` are keyed by job id; a producer may key a
    job by something else (a session, a prefix) to keep related prompts on one replica.
    """

    interactive: TopicSpec
    batch: TopicSpec
    relegated: TopicSpec
    events: TopicSpec
    tokens: TopicSpec
    control: TopicSpec
    dead_letters: TopicSpec
    replies_sent: TopicSpec
    load: TopicSpec

    @classmethod
    def of(cls, pool: str, prefix: str = "niyama", partitions: int = 6) -> Self:
        """Topics of `pool`. Batch topics outlive the longest class by several days."""

        def job_topic(suffix: str, description: str) -> TopicSpec:
            # A job arrives when its producer publishes it.
            return TopicSpec(
                f"{prefix}.{pool}.{suffix}",
                partitions,
                7 * DAY_S,
                description,
                timestamps="CreateTime",
            )

        return cls(
            interactive=job_topic(
                "interactive", "Jobs that somebody waits for: interactive, deadline and task"
            ),
            batch=job_topic(
                "batch", "Jobs that nobody waits for, with a deadline for their last token"
            ),
            relegated=job_topic("relegated", "Jobs that any replica may take when it has room"),
            events=TopicSpec(f"{prefix}.events", partitions, 7 * DAY_S, "What happened to jobs"),
            tokens=TopicSpec(f"{prefix}.tokens", partitions, 3600, "Streamed output"),
            control=TopicSpec(
                f"{prefix}.control",
                1,
                7 * DAY_S,
                "Cancellations; every worker reads all of it",
                cleanup_policy="compact,delete",
            ),
            dead_letters=TopicSpec(
                f"{prefix}.dead-letters",
                partitions,
                30 * DAY_S,
                "Records that a worker or the ledger could not use, with the reason in headers",
            ),
            # Kept for much longer than events, because a ledger that is rebuilt from an event
            # whose note is gone would send that reply again. A topic's last segment may outlive
            # its retention by as much again.
            replies_sent=TopicSpec(
                f"{prefix}.replies-sent",
                1,
                30 * DAY_S,
                "Which replies are in their topics; the gateways' own",
            ),
            # Read from its beginning by every gateway that starts, so it is kept short: what one
            # worker reports in an hour would be megabytes.
            load=TopicSpec(
                f"{prefix}.load",
                1,
                3600,
                "What each worker serves, and how busy it is: its last report",
                cleanup_policy="compact,delete",
                max_record_bytes=LOAD_RECORD_BYTES,
                segment_bytes=LOAD_SEGMENT_BYTES,
            ),
        )

    @property
    def jobs(self) -> tuple[TopicSpec, TopicSpec, TopicSpec]:
        """The topics that workers take jobs from, most urgent first."""
        return (self.interactive, self.batch, self.relegated)

    @property
    def of_workers(self) -> tuple[TopicSpec, ...]:
        """Those that a worker cannot serve without."""
        return (*self.jobs, self.events, self.tokens, self.control, self.dead_letters)

    @property
    def of_gateways(self) -> tuple[TopicSpec, ...]:
        """Those that a gateway cannot serve without."""
        return (*self.of_workers, self.replies_sent)

    @property
    def all(self) -> tuple[TopicSpec, ...]:
        return (*self.of_gateways, self.load)

    def for_kind(self, kind: Kind) -> TopicSpec:
        """Where a new job of this kind is published."""
        return self.batch if kind is Kind.BATCH else self.interactive
