"""What was known of priors when a reading began. It only adds: a node of the last version can go on beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compared_priors",
        sa.Column("study_uid", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("reading_name", sa.String(64), primary_key=True),
        sa.Column("priors_json", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("compared_priors")
