"""Replies that an operator dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "when an operator dropped its reply, which was undeliverable"
    column = sa.Column("reply_dropped_at", sa.DateTime(timezone=True), comment=comment)
    op.add_column("jobs", column)


def downgrade() -> None:
    op.drop_column("jobs", "reply_dropped_at")
