"""The tables. Times are seconds since 1970 UTC.

No table holds a patient's name, identifier or date of birth, save ``index_studies``, which is filled only where the operator
lets peers query the node, and ``audit_messages``, which is filled only where an audit repository is configured.

``migrations/versions`` builds the same tables step by step; a test shows that both agree.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

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

# What peers may query: the attributes of finished studies, as DICOM JSON (PS3.18 annex F). Filled only where somebody may ask
index_studies = Table(
    "index_studies",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("patient_id", String(64), nullable=False),
    Column("name_key", String(200), nullable=False),  # the patient's name in upper case, without its last delimiters
    Column("accession_number", String(64), nullable=False),
    Column("study_date", String(8), nullable=False),
    Column("modalities", String(200), nullable=False),  # each between backslashes
    Column("attributes", Text, nullable=False),
    Column("covered", String(32), nullable=False),  # how many received instances and own documents it was made of
    Index("ix_index_studies_patient_id", "patient_id"),
    Index("ix_index_studies_accession_number", "accession_number"),
    Index("ix_index_studies_study_date", "study_date"),
)
index_series = Table(
    "index_series",
    metadata,
    Column("series_uid", UID, primary_key=True),
    Column("study_uid", UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("attributes", Text, nullable=False),
    Index("ix_index_series_study_uid", "study_uid"),
)
index_instances = Table(
    "index_instances",
    metadata,
    Column("sop_uid", UID, primary_key=True),
    Column("series_uid", UID, nullable=False),
    Column("study_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax", UID, nullable=False),
    Column("path", String(255), nullable=False),  # relative to the file store's root
    Column("attributes", Text, nullable=False),
    Index("ix_index_instances_study_uid", "study_uid"),
    Index("ix_index_instances_series_uid", "series_uid"),
)

# Storage commitment that peers have asked of us (PS3.4 annex J); kept until the peer has our report
commitments_asked = Table(
    "commitments_asked",
    metadata,
    Column("transaction_uid", UID, primary_key=True),
    Column("calling_ae", AE, primary_key=True),
    Column("called_ae", AE, nullable=False),
    Column("objects", Text, nullable=False),  # JSON: [SOP class UID, SOP instance UID] of each
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("asked_at", TIME, nullable=False),
    Column("next_at", TIME, nullable=False),
    Column("last_error", Text, nullable=False),
    Index("ix_commitments_asked_state", "state", "next_at"),
)

# Studies that we asked another archive for: at what priority each is read, and whether its results may leave
pulled_studies = Table(
    "pulled_studies",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("reason", String(16), nullable=False),  # pull or prior
    Column("priority", Integer, nullable=False),
    Column("at", TIME, nullable=False),
)

# Which earlier studies of its patient were fetched for a study
priors = Table(
    "priors",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("prior_uid", UID, primary_key=True),
    Column("study_date", String(8), nullable=False),
    Column("state", String(16), nullable=False),
    Column("at", TIME, nullable=False),
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
