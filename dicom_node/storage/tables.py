"""The tables. Times are seconds since 1970 UTC. No table holds a patient's name, identifier or date of birth.

``migrations/versions`` builds the same tables step by step; a test shows that both agree.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

UID = String(64)  # PS3.5 9.1
AE = String(16)  # PS3.5 6.2, VR AE
SHA256 = String(64)  # hexadecimal
TIME = Float(53)  # double precision on every database


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
    Index("ix_documents_study_uid", "study_uid", "revision"),
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
)

# A delivery that the peer has stored and not yet confirmed (storage commitment, PS3.4 annex J)
commitments = Table(
    "commitments",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("destination", String(64), nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("sop_uid", UID, nullable=False),
    Column("transaction_uid", UID, nullable=False),  # of the newest request; empty before the first
    Column("sends", Integer, nullable=False),  # times it was stored
    Column("asks", Integer, nullable=False),  # requests since it was last stored
    Column("asker", String(160), nullable=False),  # the process that makes the newest request; empty when it is made
    Column("accepted", Boolean, nullable=False),  # the peer has taken the newest request
    Column("stored_at", TIME, nullable=False),
    Column("next_at", TIME, nullable=False),  # when to ask, or when the answer is overdue
    Index("ix_commitments_destination", "destination", "next_at"),
)

# Every request that was made for it: a late answer to an earlier one counts too
commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("transaction_uid", UID, primary_key=True),
    Column("job_id", Integer, primary_key=True, autoincrement=False),
)

destination_states = Table(
    "destination_states",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("host", String(64), primary_key=True),  # each machine sees a destination by its own network
    Column("state", String(16), nullable=False),
    Column("failures", Integer, nullable=False),  # in a row
    Column("since", TIME, nullable=False),
    Column("next_try_at", TIME, nullable=False),
    Column("last_error", Text, nullable=False),
)

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
