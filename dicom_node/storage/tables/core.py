"""Studies on their way through the node: images, work, results, documents, and what an operator must see."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from dicom_node.storage.tables.schema import AE, SHA256, TIME, UID, metadata

studies = Table(
    "studies",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("patient_digest", SHA256, nullable=False),  # whose the first instance was; tells another patient's apart
    Column("first_instance_at", TIME, nullable=False),
    Column("last_instance_at", TIME, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("dirty", Boolean, nullable=False),  # instances came since the last revision was opened
    Column("revision", Integer, nullable=False),  # 0: none opened yet
    Column("calling_ae", AE, nullable=False),
    Column("called_ae", AE, nullable=False),
    Column("host", String(64), nullable=False),
    Index("ix_studies_dirty", "dirty", "last_instance_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sop_uid", UID, nullable=False),
    Column("copy", Integer, nullable=False),  # 0: the first; higher: other bytes under the same UID, set aside
    Column("set_aside", Boolean, nullable=False),  # kept, never read
    Column("sop_class_uid", UID, nullable=False),
    Column("series_uid", UID, nullable=False),
    Column("study_uid", UID, nullable=False),
    Column("transfer_syntax", UID, nullable=False),
    Column("path", String(255), nullable=False),  # relative to the file store's root
    Column("size", BigInteger, nullable=False),  # bytes of the data set
    Column("sha256", SHA256, nullable=False),  # of the data set as sent, without preamble and file meta
    Column("patient_digest", SHA256, nullable=False),
    Column("calling_ae", AE, nullable=False),
    Column("called_ae", AE, nullable=False),
    Column("host", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("body_part", String(16), nullable=False),
    Column("requested_priority", String(16), nullable=False),
    Column("received_at", TIME, nullable=False),
    UniqueConstraint("sop_uid", "copy"),
    Index("ix_instances_study_uid", "study_uid"),
)

# Receiving: which associations carry a study, and in what its instances should agree (digests)
study_senders = Table(
    "study_senders",
    metadata,
    Column("association", String(160), primary_key=True),  # the process that holds it, and its number there
    Column("study_uid", UID, primary_key=True),
    Column("since", TIME, nullable=False),
    Column("ended_at", TIME, nullable=False),  # 0: it is open
    Column("released", Boolean, nullable=False),
    Index("ix_study_senders_study_uid", "study_uid"),
)

study_identities = Table(
    "study_identities",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("identity", String(64), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("queue", String(64), nullable=False),
    Column("idempotency_key", String(255), nullable=False),
    Column("study_uid", UID, nullable=False),
    Column("payload", Text, nullable=False),  # JSON
    Column("priority", Integer, nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),  # claims, all of them
    Column("unfinished", Integer, nullable=False),  # claims in a row that ended without a word from the worker
    Column("not_before", TIME, nullable=False),
    Column("lease_owner", String(160), nullable=False),
    Column("lease_until", TIME, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("first_error_at", TIME, nullable=True),
    Column("last_error", Text, nullable=False),
    Column("done_at", TIME, nullable=True),
    UniqueConstraint("idempotency_key"),
    Index("ix_jobs_state", "state", "kind", "priority", "created_at", "id"),
    Index("ix_jobs_study_uid", "study_uid"),
    Index("ix_jobs_done_at", "done_at"),
)

results = Table(
    "results",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_uid", UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reading_name", String(64), nullable=False),
    Column("reading_json", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    UniqueConstraint("study_uid", "revision", "reading_name"),
)

documents = Table(
    "documents",
    metadata,
    Column("uid", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("path", String(255), nullable=False),  # relative to the file store's root
    Column("study_uid", UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reading_name", String(64), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("sop_class_uid", UID, nullable=False),  # empty for a document that is not DICOM
    Column("series_uid", UID, nullable=False),
    Column("held", Text, nullable=False),  # the rules it breaks; empty for a document that may leave
    Column("purged_at", TIME, nullable=True),  # when retention removed its file; the row stays for what supersedes it
    Index("ix_documents_study_uid", "study_uid", "revision"),
    Index("ix_documents_created_at", "created_at"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", TIME, nullable=False),
    Column("severity", String(8), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", String(500), nullable=False),
    Column("study_uid", UID, nullable=False),
    Column("sop_uid", UID, nullable=False),
    Column("calling_ae", AE, nullable=False),
    Column("host", String(64), nullable=False),
    Index("ix_events_kind", "kind", "at"),
    Index("ix_events_severity", "severity", "at"),
    Index("ix_events_study_uid", "study_uid"),
)
