"""What awaits storage commitment survives a restart; how each destination stands can be seen."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UID = sa.String(64)
_TIME = sa.Float(53)


def upgrade() -> None:
    op.create_table(
        "commitments",
        sa.Column("job_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("destination", sa.String(64), nullable=False),
        *(sa.Column(name, _UID, nullable=False) for name in ("sop_class_uid", "sop_uid", "transaction_uid")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("sends", "asks")),
        sa.Column("asker", sa.String(160), nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("stored_at", "next_at")),
    )
    op.create_index("ix_commitments_destination", "commitments", ["destination", "next_at"])
    op.create_table(
        "commitment_requests",
        sa.Column("transaction_uid", _UID, primary_key=True),
        sa.Column("job_id", sa.Integer, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "destination_states",
        sa.Column("destination", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("since", "next_try_at")),
        sa.Column("last_error", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for name in ("destination_states", "commitment_requests", "commitments"):
        op.drop_table(name)
