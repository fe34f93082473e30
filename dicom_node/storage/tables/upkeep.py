"""What unattended work needs: processes, measures, logins, retention, audit, drift."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from dicom_node.storage.tables.schema import SHA256, TIME, UID, metadata

# The processes of the node that live, on every machine
nodes = Table(
    "nodes",
    metadata,
    Column("owner", String(160), primary_key=True),
    Column("host", String(64), nullable=False),
    Column("role", String(16), nullable=False),  # listen, work, deliver or web
    Column("version", String(32), nullable=False),
    Column("since", TIME, nullable=False),
    Column("seen_at", TIME, nullable=False),
    Column("state", String(200), nullable=False),  # what it is doing, such as "loading models"
)

# What the processes count and time (`dicom_node.measures`), added up over all of them and over restarts
measures = Table(
    "measures",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("labels", String(255), primary_key=True),  # JSON
    Column("bucket", String(16), primary_key=True),  # empty for a counter; an upper bound, "+Inf" or "sum" of a histogram
    Column("value", TIME, nullable=False),
)

gauges = Table(
    "gauges",
    metadata,
    Column("owner", String(160), primary_key=True),  # the process that tells it
    Column("name", String(64), primary_key=True),
    Column("labels", String(255), primary_key=True),  # JSON
    Column("value", TIME, nullable=False),
    Column("at", TIME, nullable=False),
)

# Who is logged in to the pages. The browser holds the key; here is its SHA-256 only.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("key_digest", SHA256, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("form_key", String(64), nullable=False),  # every form of the session carries it
    Column("seen_at", TIME, nullable=False),
    Column("until", TIME, nullable=False),
)

# Retention: what was removed of a study, so that a late image's reading can say so
purged_studies = Table(
    "purged_studies",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("images", Integer, nullable=False),
    Column("at", TIME, nullable=False),
)

# Files whose rows are gone and that are still to be deleted
purged_files = Table(
    "purged_files",
    metadata,
    Column("path", String(255), primary_key=True),  # relative to the file store's root
    Column("study_uid", UID, nullable=False),
    Column("at", TIME, nullable=False),
    Index("ix_purged_files_study_uid", "study_uid"),
)

# Idempotency keys of jobs that retention removed: the same work is never queued again
spent_keys = Table(
    "spent_keys",
    metadata,
    Column("digest", String(32), primary_key=True),
)

# Work that one process of all the machines does: who does it, until when
chores = Table(
    "chores",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("owner", String(160), nullable=False),
    Column("until", TIME, nullable=False),
)

# Audit messages (PS3.15 A.5) until the repository has them. They may hold a Patient ID, where `audit.patient` says so
audit_messages = Table(
    "audit_messages",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", TIME, nullable=False),
    Column("outcome", Integer, nullable=False),  # Event Outcome Indicator: 0, 4, 8 or 12
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,
)

# Up to which row of a table messages were made
audit_marks = Table(
    "audit_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("last_id", BigInteger, nullable=False),
)

# Drift watch: what each reading showed, until it is folded into its stream
drift_observations = Table(
    "drift_observations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_uid", UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reading_name", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("scanner", String(80), nullable=False),
    Column("at", TIME, nullable=False),
    Column("content", LargeBinary, nullable=False),
    UniqueConstraint("study_uid", "revision", "reading_name"),
)

# One reading by one model of the images of one scanner: its baseline and its newest studies
drift_streams = Table(
    "drift_streams",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("reading_name", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("scanner", String(80), nullable=False),
    Column("studies", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("updated_at", TIME, nullable=False),
    UniqueConstraint("reading_name", "model", "scanner"),
)

drift_signals = Table(
    "drift_signals",
    metadata,
    Column("stream_id", Integer, primary_key=True, autoincrement=False),
    Column("signal", String(80), primary_key=True),
    Column("effect", TIME, nullable=False),
    Column("p_value", TIME, nullable=False),
    Column("alarm", Boolean, nullable=False),
    Column("streak", Integer, nullable=False),  # looks in a row that speak against the present state
    Column("since", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
)
