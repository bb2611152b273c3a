"""Jobs may expire: `expire_after_s`."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "null: served however late"
    op.add_column("jobs", sa.Column("expire_after_s", sa.Double(), comment=comment))


def downgrade() -> None:
    op.drop_column("jobs", "expire_after_s")
