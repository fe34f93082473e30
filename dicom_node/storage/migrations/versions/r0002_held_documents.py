"""Documents that failed their check are kept and held; each row tells what a later revision needs to replace it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("sop_class_uid", sa.String(64), nullable=False, server_default=""),
        sa.Column("series_uid", sa.String(64), nullable=False, server_default=""),
        sa.Column("held", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("documents", column)


def downgrade() -> None:
    for name in ("held", "series_uid", "sop_class_uid"):
        op.drop_column("documents", name)
