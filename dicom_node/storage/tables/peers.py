"""What the peers keep for us, and what they ask of us: commitments, destinations, the index, fetched studies."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from dicom_node.storage.tables.schema import AE, TIME, UID, metadata

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

# What was known of the priors when a reading began: its documents are made of that, however often they are made
compared_priors = Table(
    "compared_priors",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("reading_name", String(64), primary_key=True),
    Column("priors_json", Text, nullable=False),
    Column("at", TIME, nullable=False),
)
