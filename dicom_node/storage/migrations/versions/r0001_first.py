"""Studies, instances, jobs, results, documents, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UID = sa.String(64)
_AE = sa.String(16)
_SHA256 = sa.String(64)
_TIME = sa.Float(53)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _time(name: str, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, _TIME, nullable=nullable)


def _string(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    _studies()
    _instances()
    _jobs()
    _results()
    _documents()
    _events()


def _studies() -> None:
    op.create_table(
        "studies",
        sa.Column("study_uid", _UID, primary_key=True),
        sa.Column("patient_digest", _SHA256, nullable=False),
        _time("first_instance_at"),
        _time("last_instance_at"),
        _number("instance_count"),
        sa.Column("dirty", sa.Boolean, nullable=False),
        _number("revision"),
        sa.Column("calling_ae", _AE, nullable=False),
        sa.Column("called_ae", _AE, nullable=False),
        _string("host", 64),
    )
    op.create_index("ix_studies_dirty", "studies", ["dirty", "last_instance_at"])


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("sop_uid", _UID, nullable=False),
        _number("copy"),
        sa.Column("set_aside", sa.Boolean, nullable=False),
        *(sa.Column(name, _UID, nullable=False) for name in ("sop_class_uid", "series_uid", "study_uid", "transfer_syntax")),
        _string("path", 255),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("patient_digest", _SHA256, nullable=False),
        sa.Column("calling_ae", _AE, nullable=False),
        sa.Column("called_ae", _AE, nullable=False),
        _string("host", 64),
        _string("modality", 16),
        _string("body_part", 16),
        _string("requested_priority", 16),
        _time("received_at"),
        sa.UniqueConstraint("sop_uid", "copy"),
    )
    op.create_index("ix_instances_study_uid", "instances", ["study_uid"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _string("kind", 16),
        _string("queue", 64),
        _string("idempotency_key", 255),
        sa.Column("study_uid", _UID, nullable=False),
        _text("payload"),
        _number("priority"),
        _string("state", 8),
        _number("attempts"),
        _number("unfinished"),
        _time("not_before"),
        _string("lease_owner", 160),
        _time("lease_until"),
        _time("created_at"),
        _time("first_error_at", nullable=True),
        _text("last_error"),
        _time("done_at", nullable=True),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "kind", "priority", "created_at", "id"])
    op.create_index("ix_jobs_study_uid", "jobs", ["study_uid"])


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_uid", _UID, nullable=False),
        _number("revision"),
        _string("reading_name", 64),
        _text("reading_json"),
        _time("created_at"),
        sa.UniqueConstraint("study_uid", "revision", "reading_name"),
    )


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("uid", sa.String(128), primary_key=True),
        _string("kind", 32),
        _string("path", 255),
        sa.Column("study_uid", _UID, nullable=False),
        _number("revision"),
        _string("reading_name", 64),
        _string("media_type", 64),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        _time("created_at"),
    )
    op.create_index("ix_documents_study_uid", "documents", ["study_uid", "revision"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _time("at"),
        _string("severity", 8),
        _string("kind", 32),
        _string("text", 500),
        sa.Column("study_uid", _UID, nullable=False),
        sa.Column("sop_uid", _UID, nullable=False),
        sa.Column("calling_ae", _AE, nullable=False),
        _string("host", 64),
    )
    op.create_index("ix_events_kind", "events", ["kind", "at"])
