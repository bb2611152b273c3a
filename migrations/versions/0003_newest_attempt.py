"""A job shows the attempt that ended it, also when a newer one is known: `newest_attempt`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("newest_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.execute("UPDATE jobs SET newest_attempt = attempt WHERE finished_at IS NULL")


def downgrade() -> None:
    op.drop_column("jobs", "newest_attempt")
