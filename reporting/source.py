"""The study behind a reading, read once from its headers in a form that every builder can trust."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedUSVolumeStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from inference.reading import Code, FrameSource, Reading
from reporting import clean, codes
from reporting.comparison import Comparison, compare
from reporting.content import ImageReference
from reporting.context import StudyContext
from reporting.errors import ContextError

_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)")  # Timezone Offset From UTC (0008,0201)
# Classes of one frame by definition; an instance that holds more all the same gets no frame number (PS3.3 table C.18-4)
_ONE_FRAME: Final = frozenset(
    {
        ComputedRadiographyImageStorage,
        CTImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        MRImageStorage,
        PositronEmissionTomographyImageStorage,
        SecondaryCaptureImageStorage,
        UltrasoundImageStorage,
    }
)


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that a document may name."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    modality: str
    frames: int

    @property
    def legal(self) -> bool:
        """Whether readers accept a reference to it: one illegal UID makes DCMTK refuse the whole content tree."""
        return clean.is_uid(self.sop_class_uid) and clean.is_uid(self.sop_instance_uid)

    @property
    def image(self) -> bool:
        """Whether an IMAGE item may refer to its SOP class (PS3.3 C.18.4)."""
        return "Image Storage" in UID(self.sop_class_uid).name or self.sop_class_uid == EnhancedUSVolumeStorage


@dataclass(frozen=True, slots=True, eq=False)
class SourceStudy:
    """What the headers say, cleaned.

    ``first``: the header whose patient, study and request attributes are copied. ``sent``: what each header names.
    ``by_uid``: each instance once, in the order sent, without those whose SOP Class, SOP Instance or Series Instance UID is
    missing or illegal (nothing can refer to them). ``written_at``: the reading's time in the time zone of the images where
    they name one, else as the node gave it.
    """

    context: StudyContext
    first: Dataset
    sent: tuple[Instance, ...]
    by_uid: dict[str, Instance]
    procedures: tuple[Code, ...]
    requested: tuple[Code, ...]
    written_at: datetime

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(self.by_uid.values())

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(instance.modality for instance in self.instances if instance.modality))

    def text(self, keyword: str) -> str:
        return clean.text(self.first, keyword)

    def header(self, sop_instance_uid: str) -> Dataset | None:
        """The header of an instance sent."""
        return next((one for one in self.context.headers if clean.text(one, "SOPInstanceUID") == sop_instance_uid), None)

    def first_of_series(self) -> dict[str, Dataset]:
        """By Series Instance UID the first header of each series: what its General Series Module says (PS3.3 C.7.3.1)."""
        wanted = {instance.series_instance_uid for instance in self.by_uid.values()}
        found: dict[str, Dataset] = {}
        for header in self.context.headers:
            uid = clean.text(header, "SeriesInstanceUID")
            if uid in wanted:
                found[uid] = header
                wanted.discard(uid)
            if not wanted:
                break
        return found

    def reference(self, source: FrameSource | None) -> ImageReference | None:
        """The image a frame came from, with its frame number where it has several; None where nothing can refer to it."""
        known = self.by_uid.get(source.sop_instance_uid) if source else None
        if source is None or known is None or not (known.legal and known.image):
            return None
        several = known.frames > 1 and known.sop_class_uid not in _ONE_FRAME
        return ImageReference(
            sop_class_uid=known.sop_class_uid,
            sop_instance_uid=known.sop_instance_uid,
            modality=known.modality,
            frame_number=source.frame_number if several else None,
        )

    def comparisons(self, reading: Reading) -> tuple[Comparison, ...]:
        """The reading beside those of the earlier studies that it was given."""
        return compare(reading, self.context.priors, self.text("StudyDate"))

    def unreferable(self) -> int:
        """How many of the instances sent no document can refer to."""
        known = (self.by_uid.get(one.sop_instance_uid) for one in self.sent)
        return sum(1 for one in known if one is None or not one.legal)

    def procedure_reported(self) -> tuple[Code, ...]:
        """The imaging procedure (IHE AIR): as performed, as requested, or by modality (CID 100)."""
        by_modality = (codes.PROCEDURES[name] for name in self.modalities if name in codes.PROCEDURES)
        return self.procedures or self.requested or tuple(dict.fromkeys(by_modality)) or (codes.IMAGING_PROCEDURE,)


def read_source(context: StudyContext, reading: Reading) -> SourceStudy:
    """Read a study's headers.

    Raises ContextError where a document could not be filed: no header, no Study Instance UID, no time zone.
    """
    if not context.headers:
        raise ContextError("headers: the study has none, so no patient and no study can be named")
    if not context.study_instance_uid.strip():
        raise ContextError("StudyInstanceUID (0020,000D) is empty: a document could not be filed with its study")
    if context.read_at.tzinfo is None:
        raise ContextError("read_at has no time zone; give an aware time")
    first = context.headers[0]
    sent = tuple(map(_instance, context.headers))
    return SourceStudy(
        context=context,
        first=first,
        sent=sent,
        by_uid=_instances(sent, reading),
        procedures=_first_codes(context.headers, "ProcedureCodeSequence"),
        requested=_requested_codes(context.headers),
        written_at=context.read_at.astimezone(zone_of(first)) if zone_of(first) else context.read_at,
    )


def prior_images(prior: Comparison) -> tuple[Instance, ...]:
    """The images of an earlier study that a document can refer to."""
    found = (Instance(one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid, "", 1) for one in prior.images)
    return tuple(one for one in found if one.legal and one.image and clean.is_uid(one.series_instance_uid))


def code_of(item: Dataset) -> Code | None:
    """The code in a foreign code item, or None where one of its three parts is missing (type 1 in our documents)."""
    value = clean.text(item, "CodeValue") or clean.text(item, "LongCodeValue")
    code = Code(value, clean.text(item, "CodingSchemeDesignator"), clean.text(item, "CodeMeaning"))
    return code if code.value and code.scheme and code.meaning else None


def request_items(source: SourceStudy) -> tuple[Dataset, ...]:
    """The items that may tell of the request: Request Attributes Sequence (series level), or else the header itself."""
    return clean.items(source.first, "RequestAttributesSequence") or (source.first,)


def _instances(sent: Iterable[Instance], reading: Reading) -> dict[str, Instance]:
    read = (Instance(one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid, "", 1) for one in _frames(reading))
    found: dict[str, Instance] = {}
    for instance in (*sent, *read):
        if all(map(clean.is_referable, (instance.sop_class_uid, instance.sop_instance_uid, instance.series_instance_uid))):
            found.setdefault(instance.sop_instance_uid, instance)
    return found


def _frames(reading: Reading) -> list[FrameSource]:
    deciding = [finding.source for finding in reading.findings]
    return [source for source in (*reading.sources, *deciding, reading.draft.source) if source is not None]


def _instance(header: Dataset) -> Instance:
    frames = clean.plain(header, "NumberOfFrames")
    return Instance(
        sop_class_uid=clean.plain(header, "SOPClassUID"),
        sop_instance_uid=clean.plain(header, "SOPInstanceUID"),
        series_instance_uid=clean.plain(header, "SeriesInstanceUID"),
        modality=clean.plain(header, "Modality"),
        frames=int(frames) if frames.isdecimal() else 1,
    )


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


def zone_of(header: Dataset) -> timezone | None:
    """The time zone of the image's dates and times, where it names one (Timezone Offset From UTC)."""
    found = _OFFSET.fullmatch(clean.text(header, "TimezoneOffsetFromUTC"))
    if not found:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset) if offset <= timedelta(hours=14) else None
