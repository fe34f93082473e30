"""Whether the instances of a study agree in whose they are: by digests, so that no patient's data are in the table."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from sqlalchemy import Connection, insert, select

from dicom_node.storage.tables import study_identities

NAMES = (
    "Patient's Name (0010,0010)",
    "Patient's Birth Date (0010,0030)",
    "Patient's Sex (0010,0040)",
    "Accession Number (0008,0050)",
)
_DIGITS = 12  # hexadecimal, of each


@lru_cache(maxsize=256)
def identity_of(study_uid: str, values: tuple[bytes, ...]) -> str:
    """``values``: of ``NAMES``, as sent. An empty one is no claim. Bound to the study, so that it links no two studies."""
    return ",".join(_digest(study_uid, value) for value in values)


def differing(conn: Connection, study_uid: str, identity: str) -> tuple[str, ...]:
    """Names of the attributes in which an instance differs from its study's first one; that one's are kept here."""
    held = conn.execute(select(study_identities.c.identity).where(study_identities.c.study_uid == study_uid)).scalar()
    if held is None:
        conn.execute(insert(study_identities).values(study_uid=study_uid, identity=identity))
        return ()
    pairs = zip(NAMES, str(held).split(","), identity.split(","), strict=True)
    return tuple(name for name, first, other in pairs if first and other and first != other)


def _digest(study_uid: str, value: bytes) -> str:
    told = value.strip(b" \0^").upper()
    return hashlib.sha256(study_uid.encode() + b"\\" + told).hexdigest()[:_DIGITS] if told else ""
