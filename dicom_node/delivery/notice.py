"""What a webhook is told of a finished study: that there is a result, what was found, where to look. No patient data."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from dicom_node.reading_json import from_json
from dicom_node.storage.results import ResultRow
from inference.reading import Decision, Finding


def notice(result: ResultRow, secret: bytes, study: Literal["digest", "uid"], links: Mapping[str, str]) -> bytes:
    """UTF-8 JSON, the same bytes whenever the same result is told of.

    ``study`` digest: the Study Instance UID stands in it only as its HMAC-SHA256 under the shared secret, which a receiver that
    knows the UID can work out. ``links``: name to address, in which ``{study_uid}`` becomes the UID.
    """
    reading = from_json(result.reading_json)
    named = {
        "uid": {"study_uid": result.study_uid},
        "digest": {"study_digest": hmac.digest(secret, result.study_uid.encode(), "sha256").hex()},
    }[study]
    data = {
        **named,
        "revision": result.revision,
        "reading": result.reading_name,
        "status": "draft, not reviewed by a physician",
        "assessable": any(finding.decision is not Decision.NOT_ASSESSABLE for finding in reading.findings),
        "positives": [_told(finding) for finding in reading.positives],
        "links": {name: link.replace("{study_uid}", result.study_uid) for name, link in links.items()},
    }
    at = datetime.fromtimestamp(int(result.created_at), UTC).isoformat()
    return json.dumps({"type": "study.read", "timestamp": at, "data": data}, sort_keys=True, ensure_ascii=False).encode()


def _told(finding: Finding) -> dict[str, Any]:
    code = {"value": finding.code.value, "scheme": finding.code.scheme, "meaning": finding.code.meaning}
    return {
        "key": finding.key,
        "code": code,
        "urgency": finding.urgency.value,
        "probability": None if finding.probability is None else round(finding.probability, 4),
    }
