"""The database's tables, by family. Whatever their family, all belong to one schema (``metadata``), which migrations make."""

from __future__ import annotations

from dicom_node.storage.tables.core import documents as documents
from dicom_node.storage.tables.core import events as events
from dicom_node.storage.tables.core import instances as instances
from dicom_node.storage.tables.core import jobs as jobs
from dicom_node.storage.tables.core import results as results
from dicom_node.storage.tables.core import studies as studies
from dicom_node.storage.tables.core import study_identities as study_identities
from dicom_node.storage.tables.core import study_senders as study_senders
from dicom_node.storage.tables.peers import commitment_requests as commitment_requests
from dicom_node.storage.tables.peers import commitments as commitments
from dicom_node.storage.tables.peers import commitments_asked as commitments_asked
from dicom_node.storage.tables.peers import compared_priors as compared_priors
from dicom_node.storage.tables.peers import destination_states as destination_states
from dicom_node.storage.tables.peers import index_instances as index_instances
from dicom_node.storage.tables.peers import index_series as index_series
from dicom_node.storage.tables.peers import index_studies as index_studies
from dicom_node.storage.tables.peers import priors as priors
from dicom_node.storage.tables.peers import pulled_studies as pulled_studies
from dicom_node.storage.tables.schema import metadata as metadata
from dicom_node.storage.tables.upkeep import audit_marks as audit_marks
from dicom_node.storage.tables.upkeep import audit_messages as audit_messages
from dicom_node.storage.tables.upkeep import chores as chores
from dicom_node.storage.tables.upkeep import drift_observations as drift_observations
from dicom_node.storage.tables.upkeep import drift_signals as drift_signals
from dicom_node.storage.tables.upkeep import drift_streams as drift_streams
from dicom_node.storage.tables.upkeep import gauges as gauges
from dicom_node.storage.tables.upkeep import measures as measures
from dicom_node.storage.tables.upkeep import nodes as nodes
from dicom_node.storage.tables.upkeep import purged_files as purged_files
from dicom_node.storage.tables.upkeep import purged_studies as purged_studies
from dicom_node.storage.tables.upkeep import spent_keys as spent_keys
from dicom_node.storage.tables.upkeep import web_sessions as web_sessions
