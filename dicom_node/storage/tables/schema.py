"""The tables. Times are seconds since 1970 UTC.

No table holds a patient's name, identifier or date of birth, save ``index_studies``, which is filled only where the operator
lets peers query the node, and ``audit_messages``, which is filled only where an audit repository is configured.

``migrations/versions`` builds the same tables step by step; a test shows that both agree.
"""

from __future__ import annotations

from sqlalchemy import (
    Float,
    MetaData,
    String,
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
