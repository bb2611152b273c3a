"""For the reconciler: abandoned jobs, indexes of the jobs it looks for, whose turn it is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    comment = "since when no worker will report on it, though open"
    op.add_column("jobs", sa.Column("abandoned_at", TIME, comment=comment))
    op.create_index(
        "jobs_open_by_source",
        "jobs",
        ["source_topic", "source_partition", "source_offset"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "jobs_to_cancel",
        "jobs",
        ["job_id"],
        postgresql_where=sa.text("status = 'queued' AND cancel_requested_at IS NOT NULL"),
    )
    comment = "one gateway at a time moves it on"
    op.create_table(
        "periodic_tasks",
        sa.Column("task", sa.Text(), primary_key=True),
        sa.Column("next_run_at", TIME, nullable=False, comment=comment),
    )


def downgrade() -> None:
    op.drop_table("periodic_tasks")
    op.drop_index("jobs_to_cancel", "jobs")
    op.drop_index("jobs_open_by_source", "jobs")
    op.drop_column("jobs", "abandoned_at")
