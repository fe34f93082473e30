"""The study behind a reading, read once from its headers in a form that every builder can trust."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom import Dataset

from inference.reading import Code, FrameSource, Reading
from reporting import clean, codes
from reporting.content import ImageReference
from reporting.context import StudyContext
from reporting.errors import ContextError

_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)")  # Timezone Offset From UTC (0008,0201)


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that a document may name."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    modality: str
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class SourceStudy:
    """What the headers say, cleaned.

    ``first``: the header whose patient, study and request attributes are copied. ``instances``: each once, in the order
    sent, without those that lack a SOP Class, SOP Instance or Series Instance UID (nothing can refer to them).
    ``written_at``: the reading's time in the time zone of the images where they name one, else as the node gave it.
    """

    context: StudyContext
    first: Dataset
    instances: tuple[Instance, ...]
    procedures: tuple[Code, ...]
    requested: tuple[Code, ...]
    written_at: datetime

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(instance.modality for instance in self.instances if instance.modality))

    def text(self, keyword: str) -> str:
        return clean.text(self.first, keyword)

    def reference(self, source: FrameSource) -> ImageReference:
        """The image a frame came from, with its frame number where the image has several."""
        known = next((one for one in self.instances if one.sop_instance_uid == source.sop_instance_uid), None)
        several = known is not None and known.frames > 1
        return ImageReference(
            sop_class_uid=source.sop_class_uid,
            sop_instance_uid=source.sop_instance_uid,
            series_instance_uid=source.series_instance_uid,
            modality=known.modality if known else "",
            frame_number=source.frame_number if several or source.frame_number > 1 else None,
        )

    def procedure_reported(self) -> tuple[Code, ...]:
        """The imaging procedure (IHE AIR): as performed, as requested, or by modality (CID 100)."""
        by_modality = (codes.PROCEDURES[name] for name in self.modalities if name in codes.PROCEDURES)
        return self.procedures or self.requested or tuple(dict.fromkeys(by_modality)) or (codes.IMAGING_PROCEDURE,)


def read_source(context: StudyContext, reading: Reading) -> SourceStudy:
    """Read a study's headers. Raises ContextError where a document could not be filed: no header, no Study Instance UID, no time zone."""
    if not context.headers:
        raise ContextError("headers: the study has none, so no patient and no study can be named")
    if not context.study_instance_uid.strip():
        raise ContextError("StudyInstanceUID (0020,000D) is empty: a document could not be filed with its study")
    if context.read_at.tzinfo is None:
        raise ContextError("read_at has no time zone; give an aware time")
    with clean.quiet_headers():
        first = context.headers[0]
        return SourceStudy(
            context=context,
            first=first,
            instances=_instances(context.headers, reading),
            procedures=_first_codes(context.headers, "ProcedureCodeSequence"),
            requested=_requested_codes(context.headers),
            written_at=context.read_at.astimezone(_zone(first)) if _zone(first) else context.read_at,
        )


def code_of(item: Dataset) -> Code | None:
    """The code in a foreign code item, or None where one of its three parts is missing (type 1 in our documents)."""
    value = clean.text(item, "CodeValue") or clean.text(item, "LongCodeValue")
    code = Code(value, clean.text(item, "CodingSchemeDesignator"), clean.text(item, "CodeMeaning"))
    return code if code.value and code.scheme and code.meaning else None


def request_items(source: SourceStudy) -> tuple[Dataset, ...]:
    """The items that may tell of the request: Request Attributes Sequence (series level), or else the header itself."""
    return clean.items(source.first, "RequestAttributesSequence") or (source.first,)


def _instances(headers: Iterable[Dataset], reading: Reading) -> tuple[Instance, ...]:
    sent = (_instance(header) for header in headers)
    read = (Instance(one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid, "", 1) for one in _frames(reading))
    found: dict[str, Instance] = {}
    for instance in (*sent, *read):
        if instance.sop_class_uid and instance.sop_instance_uid and instance.series_instance_uid:
            found.setdefault(instance.sop_instance_uid, instance)
    return tuple(found.values())


def _frames(reading: Reading) -> list[FrameSource]:
    deciding = [finding.source for finding in reading.findings]
    return [source for source in (*reading.sources, *deciding, reading.draft.source) if source is not None]


def _instance(header: Dataset) -> Instance:
    uids = (clean.text(header, keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"))
    frames = clean.text(header, "NumberOfFrames")
    return Instance(*uids, modality=clean.text(header, "Modality"), frames=int(frames) if frames.isdecimal() else 1)


def _first_codes(headers: Iterable[Dataset], keyword: str) -> tuple[Code, ...]:
    for header in headers:
        found = tuple(code for item in clean.items(header, keyword) if (code := code_of(item)))
        if found:
            return found
    return ()


def _requested_codes(headers: tuple[Dataset, ...]) -> tuple[Code, ...]:
    inner = tuple(item for header in headers for item in clean.items(header, "RequestAttributesSequence"))
    keyword = "RequestedProcedureCodeSequence"
    return _first_codes(headers, keyword) or _first_codes(inner, keyword)


def _zone(header: Dataset) -> timezone | None:
    found = _OFFSET.fullmatch(clean.text(header, "TimezoneOffsetFromUTC"))
    if not found:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset) if offset <= timedelta(hours=14) else None
