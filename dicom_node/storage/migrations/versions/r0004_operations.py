"""What unattended work on one machine or several needs. It only adds: a node of the last version can go on beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UID = sa.String(64)
_TIME = sa.Float(53)


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("owner", sa.String(160), primary_key=True),
        sa.Column("host", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("since", "seen_at")),
        sa.Column("state", sa.String(200), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("nodes")
