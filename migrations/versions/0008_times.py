"""Where a job's time went, `times`, and where to see it: `trace_id`."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "where the time went; null: nobody has said"
    op.add_column("jobs", sa.Column("times", postgresql.JSONB(), comment=comment))
    comment = "of its trace; null: none was kept"
    op.add_column("jobs", sa.Column("trace_id", sa.Text(), comment=comment))


def downgrade() -> None:
    op.drop_column("jobs", "trace_id")
    op.drop_column("jobs", "times")
