"""What tells jobs and their attempts apart: `newest_attempt`, and the gateways' shared secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    newest = sa.Column("newest_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False)
    op.add_column("jobs", newest)
    op.execute("UPDATE jobs SET newest_attempt = attempt WHERE finished_at IS NULL")
    op.create_table(
        "gateway_secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("gateway_secrets")
    op.drop_column("jobs", "newest_attempt")
