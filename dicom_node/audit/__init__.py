"""The audit trail: messages of PS3.15 A.5 (RFC 3881), recorded as an IHE ATNA secure node does (ITI-20, Record Audit Event).

A message is written into the database, in the transaction of the act that it tells of where there is one, and sent to the
repository afterwards, in order, for as long as that takes. Nothing of it ever gets into a log.
"""

from dicom_node.audit.auditor import Auditor

__all__ = ["Auditor"]
