"""The ledger: jobs, their history and results, replies to send, and how far the log was read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JOB_STATUS = postgresql.ENUM(
    *("queued", "admitted", "running", "completed", "failed", "expired", "cancelled"),
    name="job_status",
    create_type=False,
)


def upgrade() -> None:
    JOB_STATUS.create(op.get_bind())
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("prediction", postgresql.JSONB()),
        sa.PrimaryKeyConstraint("job_id", "at", "event_id"),
        postgresql_partition_by="RANGE (at)",
    )
    op.create_table(
        "job_results",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("token_ids", postgresql.ARRAY(sa.Integer())),
        sa.Column("logprobs", postgresql.JSONB()),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("status", JOB_STATUS, nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True)),
        sa.Column("pool", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("tenant", sa.Text()),
        sa.Column("application", sa.Text()),
        sa.Column("importance", sa.Text()),
        sa.Column("qos_class", sa.Text(), comment="null: the job gave explicit targets"),
        sa.Column("kind", sa.Text(), comment="interactive or batch"),
        sa.Column("ttft_s", sa.Double()),
        sa.Column("tbt_s", sa.Double()),
        sa.Column("ttlt_s", sa.Double()),
        sa.Column(
            "deadline_at",
            sa.DateTime(timezone=True),
            comment="of the first token (interactive) or the last (batch)",
        ),
        sa.Column("max_tokens", sa.Integer()),
        sa.Column("stream", sa.Boolean()),
        sa.Column("reply_topic", sa.Text()),
        sa.Column("metadata", postgresql.JSONB()),
        sa.Column("source_topic", sa.Text()),
        sa.Column("source_partition", sa.Integer()),
        sa.Column("source_offset", sa.BigInteger()),
        sa.Column("request_sha256", sa.LargeBinary(), comment="of the record's value"),
        sa.Column(
            "attempt", sa.Integer(), nullable=False, comment="0: no worker has taken the job"
        ),
        sa.Column("worker_id", sa.Text()),
        sa.Column("admitted_at", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("first_token_at", sa.DateTime(timezone=True)),
        sa.Column("prompt_tokens", sa.Integer()),
        sa.Column("completion_tokens", sa.Integer()),
        sa.Column("cached_tokens", sa.Integer()),
        sa.Column("largest_gap_ms", sa.Double()),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("terminal_event_id", sa.UUID()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("outcome_reason", sa.Text(), comment="why it was cancelled or expired"),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True)),
        sa.Column("relegated_at", sa.DateTime(timezone=True), comment="last time"),
        sa.Column("restored_at", sa.DateTime(timezone=True), comment="last time"),
        sa.Column("relegations", sa.Integer(), nullable=False),
        sa.Column("parks", sa.Integer(), nullable=False),
        sa.Column("terminal_events", sa.Integer(), nullable=False, comment="above 1: duplicates"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("jobs_by_arrival", "jobs", ["arrived_at", "job_id"])
    op.create_index(
        "jobs_by_status",
        "jobs",
        ["status", "arrived_at", "job_id"],
        postgresql_where=sa.text("status <> 'completed'"),
    )
    op.create_index("jobs_of_class", "jobs", ["qos_class", "arrived_at", "job_id"])
    op.create_index("jobs_of_tenant", "jobs", ["tenant", "arrived_at", "job_id"])
    op.create_index(
        "jobs_open_by_deadline",
        "jobs",
        ["deadline_at", "job_id"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "ledger_offsets",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "next_offset",
            sa.BigInteger(),
            nullable=False,
            comment="of the first record not in here",
        ),
        sa.PrimaryKeyConstraint("topic", "partition"),
    )
    op.create_table(
        "reply_outbox",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("reply_topic", sa.Text(), comment="null: held until the job's record is known"),
        sa.Column(
            "value", sa.LargeBinary(), nullable=False, comment="the terminal event, byte for byte"
        ),
        sa.Column(
            "headers",
            postgresql.JSONB(),
            nullable=False,
            comment="its trace context, as [name, value] pairs",
        ),
        sa.Column(
            "written_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "batch", sa.BigInteger(), comment="the transaction that carries it, once there is one"
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_try_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("error", sa.Text(), comment="why the last attempt failed"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index(
        "reply_outbox_due",
        "reply_outbox",
        ["next_try_at", "job_id"],
        postgresql_where=sa.text("reply_topic IS NOT NULL"),
    )
    op.execute("CREATE TABLE job_events_default PARTITION OF job_events DEFAULT")


def downgrade() -> None:
    for table in ("ledger_offsets", "reply_outbox", "job_results", "job_events", "jobs"):
        op.drop_table(table)
    JOB_STATUS.drop(op.get_bind())
