"""Replies: topics that fail, replies that were given up or sent, and the relay's lease."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    now = sa.text("now()")
    op.drop_index("reply_outbox_due", "reply_outbox")
    op.drop_column("reply_outbox", "batch")
    op.alter_column(
        "reply_outbox", "written_at", comment="or when an operator last asked to try it again"
    )
    comment = "when this reply, not its topic, failed first"
    op.add_column("reply_outbox", sa.Column("failing_since", Time, comment=comment))
    comment = "when it was given up; null: it will be tried"
    op.add_column("reply_outbox", sa.Column("undeliverable_at", Time, comment=comment))
    op.create_index(
        "reply_outbox_due",
        "reply_outbox",
        ["reply_topic", "next_try_at", "job_id"],
        postgresql_where=sa.text("reply_topic IS NOT NULL AND undeliverable_at IS NULL"),
    )
    op.create_index(
        "reply_outbox_undeliverable",
        "reply_outbox",
        ["undeliverable_at", "job_id"],
        postgresql_where=sa.text("undeliverable_at IS NOT NULL"),
    )
    op.create_table(
        "failing_reply_topics",
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("failing_since", Time, nullable=False, server_default=now),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", Time, nullable=False),
        sa.Column("error", sa.Text(), nullable=False, comment="why the last attempt failed"),
    )
    op.create_table(
        "replies_sent",
        sa.Column("job_id", sa.UUID(), primary_key=True),
        sa.Column("noted_at", Time, nullable=False, server_default=now),
        comment="replies that Kafka says were sent, of jobs whose end is not in this database yet",
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.UUID(), nullable=False),
        sa.Column("expires_at", Time, nullable=False),
    )


def downgrade() -> None:
    for table in ("leases", "replies_sent", "failing_reply_topics"):
        op.drop_table(table)
    op.drop_index("reply_outbox_undeliverable", "reply_outbox")
    op.drop_index("reply_outbox_due", "reply_outbox")
    op.drop_column("reply_outbox", "undeliverable_at")
    op.drop_column("reply_outbox", "failing_since")
    op.alter_column("reply_outbox", "written_at", comment=None)
    comment = "the transaction that carries it, once there is one"
    op.add_column("reply_outbox", sa.Column("batch", sa.BigInteger(), comment=comment))
    op.create_index(
        "reply_outbox_due",
        "reply_outbox",
        ["next_try_at", "job_id"],
        postgresql_where=sa.text("reply_topic IS NOT NULL"),
    )
