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
    _receiving()
    _index()
    _asked()
    _watch()
    _seen()


def _receiving() -> None:
    """Which associations carry a study, and in what its instances should agree."""
    op.create_table(
        "study_senders",
        sa.Column("association", sa.String(160), primary_key=True),
        sa.Column("study_uid", _UID, primary_key=True),
        *(sa.Column(name, _TIME, nullable=False) for name in ("since", "ended_at")),
        sa.Column("released", sa.Boolean, nullable=False),
    )
    op.create_index("ix_study_senders_study_uid", "study_senders", ["study_uid"])
    op.create_table(
        "study_identities",
        sa.Column("study_uid", _UID, primary_key=True),
        sa.Column("identity", sa.String(64), nullable=False),
    )


def _index() -> None:
    """What peers may query."""
    op.create_table(
        "index_studies",
        sa.Column("study_uid", _UID, primary_key=True),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(200), nullable=False),
        sa.Column("accession_number", sa.String(64), nullable=False),
        sa.Column("study_date", sa.String(8), nullable=False),
        sa.Column("modalities", sa.String(200), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("covered", sa.String(32), nullable=False),
    )
    op.create_index("ix_documents_created_at", "documents", ["created_at"])
    for column in ("patient_id", "accession_number", "study_date"):
        op.create_index(f"ix_index_studies_{column}", "index_studies", [column])
    op.create_table(
        "index_series",
        sa.Column("series_uid", _UID, primary_key=True),
        sa.Column("study_uid", _UID, nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
    )
    op.create_index("ix_index_series_study_uid", "index_series", ["study_uid"])
    op.create_table(
        "index_instances",
        sa.Column("sop_uid", _UID, primary_key=True),
        *(sa.Column(name, _UID, nullable=False) for name in ("series_uid", "study_uid", "sop_class_uid", "transfer_syntax")),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
    )
    for column in ("study_uid", "series_uid"):
        op.create_index(f"ix_index_instances_{column}", "index_instances", [column])


def _asked() -> None:
    """The storage commitment that peers ask of us, and studies we asked other archives for."""
    op.create_table(
        "commitments_asked",
        sa.Column("transaction_uid", _UID, primary_key=True),
        sa.Column("calling_ae", sa.String(16), primary_key=True),
        sa.Column("called_ae", sa.String(16), nullable=False),
        sa.Column("objects", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("asked_at", "next_at")),
        sa.Column("last_error", sa.Text, nullable=False),
    )
    op.create_index("ix_commitments_asked_state", "commitments_asked", ["state", "next_at"])
    op.create_table(
        "pulled_studies",
        sa.Column("study_uid", _UID, primary_key=True),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )
    op.create_table(
        "priors",
        *(sa.Column(name, _UID, primary_key=True) for name in ("study_uid", "prior_uid")),
        sa.Column("study_date", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )


def _seen() -> None:
    """What the processes count, and who is logged in to the pages."""
    op.create_index("ix_jobs_done_at", "jobs", ["done_at"])
    op.create_index("ix_events_severity", "events", ["severity", "at"])
    op.create_index("ix_events_study_uid", "events", ["study_uid"])
    op.create_table(
        "measures",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("labels", sa.String(255), primary_key=True),
        sa.Column("bucket", sa.String(16), primary_key=True),
        sa.Column("value", _TIME, nullable=False),
    )
    op.create_table(
        "gauges",
        sa.Column("owner", sa.String(160), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("labels", sa.String(255), primary_key=True),
        *(sa.Column(name, _TIME, nullable=False) for name in ("value", "at")),
    )
    op.create_table(
        "web_sessions",
        sa.Column("key_digest", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("form_key", sa.String(64), nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("seen_at", "until")),
    )


def _watch() -> None:
    """Retention, audit messages and drift watch."""
    op.add_column("documents", sa.Column("purged_at", _TIME, nullable=True))
    op.create_table(
        "purged_studies",
        sa.Column("study_uid", _UID, primary_key=True),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )
    op.create_table(
        "purged_files",
        sa.Column("path", sa.String(255), primary_key=True),
        sa.Column("study_uid", _UID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )
    op.create_index("ix_purged_files_study_uid", "purged_files", ["study_uid"])
    op.create_table("spent_keys", sa.Column("digest", sa.String(32), primary_key=True))
    op.create_table(
        "chores",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("until", _TIME, nullable=False),
    )
    op.create_table(
        "audit_messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("outcome", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit_marks",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("last_id", sa.BigInteger, nullable=False),
    )
    _drift()


def _drift() -> None:
    op.create_table(
        "drift_observations",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_uid", _UID, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("reading_name", "model")),
        sa.Column("scanner", sa.String(80), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("study_uid", "revision", "reading_name"),
    )
    op.create_table(
        "drift_streams",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("reading_name", "model")),
        sa.Column("scanner", sa.String(80), nullable=False),
        sa.Column("studies", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.UniqueConstraint("reading_name", "model", "scanner"),
    )
    op.create_table(
        "drift_signals",
        sa.Column("stream_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("signal", sa.String(80), primary_key=True),
        *(sa.Column(name, _TIME, nullable=False) for name in ("effect", "p_value")),
        sa.Column("alarm", sa.Boolean, nullable=False),
        sa.Column("streak", sa.Integer, nullable=False),
        *(sa.Column(name, _TIME, nullable=False) for name in ("since", "updated_at")),
    )


def downgrade() -> None:
    for name in (
        "drift_signals", "drift_streams", "drift_observations", "audit_marks", "audit_messages", "chores", "spent_keys",
        "purged_files", "purged_studies",
    ):  # fmt: skip
        op.drop_table(name)
    op.drop_column("documents", "purged_at")
    for name in ("web_sessions", "gauges", "measures"):
        op.drop_table(name)
    op.drop_index("ix_jobs_done_at", "jobs")
    op.drop_index("ix_events_severity", "events")
    op.drop_index("ix_events_study_uid", "events")
    op.drop_index("ix_documents_created_at", "documents")
    for name in ("priors", "pulled_studies", "commitments_asked", "index_instances", "index_series", "index_studies"):
        op.drop_table(name)
    for name in ("study_identities", "study_senders"):
        op.drop_table(name)
    op.drop_table("nodes")
