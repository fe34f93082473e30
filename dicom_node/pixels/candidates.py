"""Which instances of a study are images that can be read, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels.describe import mammographic_view, modality
from dicom_node.pixels.geometry import Place, slice_place
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.key_objects import KeyObjects, whole_numbers
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.no_images import NOT_AN_IMAGE, NOT_AN_IMAGE_CLASS
from dicom_node.pixels.rules import FrameRules, Rule, Take
from dicom_node.pixels.syntaxes import refusal
from inference.reading import Skipped

_HUMAN_CODES = frozenset({"337915000", "L-85B00"})
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An instance that can be read, with what decides which of its frames are.

    ``order``: series number, instance number. ``places``: of each frame, where slices are put in order. ``view``: of a
    mammogram, empty where unknown. ``made``: when, as text that sorts. ``key_frames``, ``masks``: frame numbers.
    """

    instance: Instance
    modality: str
    series: str
    frames: int
    rule: Rule
    intent: str
    order: tuple[int, int]
    places: tuple[Place | None, ...]
    view: tuple[str, ...]
    made: str
    key_frames: tuple[int, ...]
    masks: frozenset[int]


def candidates_of(
    instances: Iterable[Instance], rules: FrameRules, keys: KeyObjects, skipped: list[Skipped]
) -> list[Candidate]:
    """One for each instance that can be read; the others are put into ``skipped``. Never raises for what a header holds."""
    found: dict[str, Candidate] = {}
    for instance in instances:
        uid = text(instance.header, "SOPInstanceUID")
        try:
            candidate = _candidate(instance, rules, keys)
            if uid in found:
                raise PixelError("it is a second copy of an instance that is already taken")
            found[uid] = candidate
        except PixelError as error:
            skipped.append(Skipped(uid, error.reason))
        except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged element; the study goes on
            skipped.append(Skipped(uid, f"its header is damaged ({type(error).__name__})"))
    return _without_raw_twins(list(found.values()), skipped)


def _candidate(instance: Instance, rules: FrameRules, keys: KeyObjects) -> Candidate:
    header = instance.header
    kind = modality(header)
    rule = rules.of(kind)
    uid = text(header, "SOPInstanceUID")
    if reason := _why_not(instance, kind, rule) or keys.rejected.get(uid, ""):
        raise PixelError(reason)
    frames = layout_of(instance).frames
    if instance.transfer_syntax and (reason := refusal(instance.transfer_syntax)):
        raise PixelError(reason)
    return Candidate(
        instance=instance,
        modality=kind,
        series=text(header, "SeriesInstanceUID"),
        frames=frames,
        rule=rule,
        intent=text(header, "PresentationIntentType").upper(),
        order=(_order(header, "SeriesNumber"), _order(header, "InstanceNumber")),
        places=tuple(slice_place(header, number) for number in range(1, frames + 1 if rule.take is Take.SLICES else 1)),
        view=mammographic_view(header) if rule.take is Take.VIEWS else (),
        made=_made(header),
        key_frames=tuple(number for number in _key_frames(header, keys.frames.get(uid, ())) if 1 <= number <= frames),
        masks=_masks(header),
    )


def _why_not(instance: Instance, kind: str, rule: Rule) -> str:
    header = instance.header
    meta = getattr(header, "file_meta", None) or Dataset()
    sop_class = text(header, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if reason := NOT_AN_IMAGE_CLASS.get(sop_class) or NOT_AN_IMAGE.get(kind):
        return reason
    if instance.pixels is None:
        return "it has no pixel data"
    if not text(header, "SOPInstanceUID"):
        return "it has no SOP Instance UID, so that no result could refer to it"
    if _of_an_animal(header):
        return "it is of an animal, which the models were not made for"
    image_type = header.get("ImageType") or []
    terms = {image_type} if isinstance(image_type, str) else {str(term).strip().upper() for term in image_type}
    if rule.take is Take.SLICES and terms & _LOCALIZERS:
        return "it is a localizer (scout) image, which only shows where the slices lie"
    return ""


def _of_an_animal(header: Dataset) -> bool:
    """Patient Species (PS3.3 C.7.1.1): stated, and not human (SNOMED CT 337915000; SRT L-85B00; CID 7454)."""
    coded = header.get("PatientSpeciesCodeSequence") or []
    values = {text(item, "CodeValue").upper() for item in coded} - {""}
    words = text(header, "PatientSpeciesDescription").lower()
    if values:
        return not values & _HUMAN_CODES
    return bool(words) and not any(name in words for name in ("human", "homo sapiens"))


def _key_frames(header: Dataset, selected: tuple[int, ...]) -> tuple[int, ...]:
    """Of a key object selection, else of the image's own marks (PS3.3 C.7.6.5 Representative Frame Number, C.12.1)."""
    if selected:
        return selected
    marked = {*whole_numbers(header.get("FrameNumbersOfInterest")), *whole_numbers(header.get("RepresentativeFrameNumber"))}
    return tuple(sorted(marked))


def _masks(header: Dataset) -> frozenset[int]:
    """Frames without contrast medium that are to be subtracted from the others (PS3.3 C.7.6.10)."""
    items = header.get("MaskSubtractionSequence") or []
    return frozenset(number for item in items for number in whole_numbers(item.get("MaskFrameNumbers")))


def _made(header: Dataset) -> str:
    when = text(header, "AcquisitionDateTime") or text(header, "AcquisitionDate") + text(header, "AcquisitionTime")
    return when or text(header, "ContentDate") + text(header, "ContentTime")


def _without_raw_twins(candidates: list[Candidate], skipped: list[Skipped]) -> list[Candidate]:
    """Digital radiography sends raw images beside the shown ones (PS3.3 C.8.11.1.1.1): they are read only where alone."""
    shown = {c.modality for c in candidates if c.intent == "FOR PRESENTATION"}
    kept = []
    for candidate in candidates:
        if candidate.intent == "FOR PROCESSING" and candidate.modality in shown:
            reason = "it is the raw (for processing) form of images that the study also holds for presentation"
            skipped.append(Skipped(candidate.instance.sop_instance_uid, reason))
        else:
            kept.append(candidate)
    return kept


def text(scope: Dataset, keyword: str) -> str:
    return str(scope.get(keyword, "") or "").strip()


def _order(header: Dataset, keyword: str) -> int:
    """A number to sort by; last where there is none."""
    try:
        return int(header.get(keyword))
    except (TypeError, ValueError, OverflowError):
        return 1 << 31
