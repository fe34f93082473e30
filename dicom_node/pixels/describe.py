"""What a frame's header says of it in words: modality, body part, view, identity."""

from __future__ import annotations

from pydicom import Dataset

from dicom_node.pixels.groups import frame_scopes
from inference.reading import FrameSource

# View codes to the defined terms of View Position (PS3.16 CID 4010 and 4014; PS3.3 C.8.11.5, C.8.7.1.1.1), as SCT and old SRT.
_VIEWS = {
    "399348003": "AP", "R-10206": "AP",
    "272479007": "PA", "R-10214": "PA", "R-40888": "PA",
    "399173006": "LL", "R-10236": "LL",
    "399198007": "RL", "R-10232": "RL",
    "399067008": "LATERAL", "R-102CD": "LATERAL",
    "399162004": "CC", "R-10242": "CC",
    "399368009": "MLO", "R-10226": "MLO",
    "399260004": "ML", "R-10224": "ML",
    "399352003": "LM", "R-10228": "LM",
    "399099002": "LMO", "R-10230": "LMO",
}  # fmt: skip


def source(header: Dataset, frame_number: int) -> FrameSource:
    """Identity as sent; an empty string where the file has none."""
    return FrameSource(
        sop_instance_uid=_text(header, "SOPInstanceUID"),
        sop_class_uid=_text(header, "SOPClassUID"),
        series_instance_uid=_text(header, "SeriesInstanceUID"),
        frame_number=frame_number,
    )


def modality(header: Dataset) -> str:
    return _text(header, "Modality").upper()


def body_part(header: Dataset, frame_number: int) -> str:
    """Body Part Examined, else the meaning of the anatomic region code; upper case."""
    if stated := _text(header, "BodyPartExamined"):
        return stated.upper()
    for scope in frame_scopes(header, frame_number, "FrameAnatomySequence"):
        if regions := scope.get("AnatomicRegionSequence"):
            return _text(regions[0], "CodeMeaning").upper()
    return ""


def view(header: Dataset) -> str:
    """View Position, else the view code as that attribute's defined term, else the code's meaning; upper case."""
    if stated := _text(header, "ViewPosition"):
        return stated.upper()
    codes = header.get("ViewCodeSequence")
    if not codes:
        return ""
    return _VIEWS.get(_text(codes[0], "CodeValue"), _text(codes[0], "CodeMeaning").upper())


def _text(scope: Dataset, keyword: str) -> str:
    return str(scope.get(keyword, "") or "").strip()


def mammographic_view(header: Dataset) -> tuple[str, ...]:
    """Side, view and modifiers (PS3.3 C.8.11.7.1, CID 4015); empty where side or view is unknown."""
    side = _text(header, "ImageLaterality") or _text(header, "Laterality")
    stated = view(header)
    codes = header.get("ViewCodeSequence") or [Dataset()]
    modifiers = sorted(_text(item, "CodeValue") for item in codes[0].get("ViewModifierCodeSequence") or [])
    return (side.upper(), stated, *modifiers) if side and stated else ()
