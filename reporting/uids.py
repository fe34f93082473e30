"""Deterministic UIDs: what is derived from the same parts is the same object, so a retry doubles nothing.

A UID is ``2.25.`` and a version 5 UUID written as a decimal number (PS3.5 B.2; at most 44 characters).
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import Final

from inference.reading import Reading
from reporting.comparison import digest_of
from reporting.context import StudyContext
from reporting.options import DocumentOptions

_PRELIMINARY: Final = re.compile(r"2\.25\.\d+\.1")
_NAMESPACE: Final = uuid.UUID("6f8b4f1e-3d0a-5c2e-9b57-1f6f0a2c7d43")


def derive_uuid(*parts: str) -> uuid.UUID:
    """The UUID of these parts; their borders count (``("a", "bc")`` differs from ``("ab", "c")``)."""
    return uuid.uuid5(_NAMESPACE, json.dumps(parts))


def derive_uid(*parts: str) -> str:
    """The DICOM UID of these parts."""
    return f"2.25.{derive_uuid(*parts).int}"


PRIVATE_SCHEME_UID: Final = derive_uid("coding scheme", "99WETREAD")
IMPLEMENTATION_UID: Final = derive_uid("implementation", "wetread")


def preliminary_uid(uid: str) -> str:
    """Of a message that gives the findings before the draft is written: that of the whole one with a component more."""
    return f"{uid}.1"


def whole_uid(uid: str) -> str:
    """Of the whole message, from that or from ``preliminary_uid`` of it."""
    return uid[: -len(".1")] if is_preliminary(uid) else uid


def is_preliminary(uid: str) -> bool:
    """Whether ``preliminary_uid`` made it."""
    return _PRELIMINARY.fullmatch(uid) is not None


def message_uid(reading: Reading, whole: str) -> str:
    """Which of the two a reading's message has."""
    return preliminary_uid(whole) if reading.draft.pending else whole


def tracking_uid(study_instance_uid: str, finding_key: str) -> str:
    """One finding of one study, the same in every revision and by every model, so that viewers follow it (TID 4108)."""
    return derive_uid("tracking", study_instance_uid, finding_key)


def device_uid(model_digest: str) -> str:
    """A model by its weights: retrained, it is another device (IHE AIR)."""
    return derive_uid("device", model_digest)


@dataclass(frozen=True, slots=True)
class ReadingKey:
    """Everything that the bytes of a document depend on besides the node's own determinism.

    ``read_at``, the software version and the arithmetic (device, precision) take part because they stand in the documents or
    move their numbers: the same UID over other bytes would be two objects under one name.
    """

    parts: tuple[str, ...]

    @classmethod
    def of(cls, reading: Reading, context: StudyContext, options: DocumentOptions) -> ReadingKey:
        models = sorted(f"{model.kind}:{model.digest}:{model.acknowledgement}" for model in reading.models)
        models += sorted(f"{head.kind}:{head.digest}" for head in reading.heads)
        return cls(
            (
                context.study_instance_uid,
                context.input_digest,
                json.dumps(models),
                reading.catalogue.digest,
                reading.mode.value,
                reading.device,
                reading.precision,
                str(context.revision),
                context.read_at.isoformat(),
                context.device_uid,
                context.station_name,
                context.institution,
                *options.key,
                *([f"priors {digest_of(context.priors)}"] if context.priors else []),
            )
        )

    def uid(self, *what: str) -> str:
        return derive_uid("reading", *self.parts, *what)

    def uuid(self, *what: str) -> str:
        return str(derive_uuid("reading", *self.parts, *what))
