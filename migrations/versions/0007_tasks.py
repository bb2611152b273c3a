"""Calls of tasks: `task`. Other kinds of jobs than interactive and batch."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("task_id", sa.Text(), comment="null: no call of a task"))
    op.add_column("jobs", sa.Column("task_call", sa.Integer()))
    op.add_column("jobs", sa.Column("task_calls_left", sa.Integer()))
    _comment("interactive, deadline, task or batch", "others")


def downgrade() -> None:
    # What an older version does not know, it shows as the kind that is most alike.
    op.execute("UPDATE jobs SET kind = 'batch' WHERE kind IN ('deadline', 'task')")
    for name in ("task_id", "task_call", "task_calls_left"):
        op.drop_column("jobs", name)
    _comment("interactive or batch", "batch")


def _comment(kinds: str, others: str) -> None:
    op.alter_column("jobs", "kind", existing_type=sa.Text(), comment=kinds)
    op.alter_column(
        "jobs",
        "deadline_at",
        existing_type=sa.DateTime(timezone=True),
        comment=f"of the first token (interactive) or the last ({others})",
    )
