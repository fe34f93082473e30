"""What kind of imaging was reported: LOINC codes by modality and body part, as FHIR records file reports.

Codes and names are those of the LOINC/RSNA Radiology Playbook (long common names). Each was compared with a published copy of
its table and with the meaning that HL7's own FHIR R4 value set c80-doc-typecodes gives the code; one that could not be was left
out. All are the general form: no side, no view and no contrast is ever guessed. This material contains content from LOINC
(http://loinc.org), copyright Regenstrief Institute, Inc. and the LOINC Committee, available at no cost under the license at
http://loinc.org/license.
"""

from __future__ import annotations

from typing import Final

from pydicom import Dataset

from inference.reading import Code
from reporting import clean
from reporting.source import SourceStudy

# What a report of imaging is called where nothing more is known; DICOM's name for it is "Diagnostic Imaging Report" (CID 7000)
DIAGNOSTIC_IMAGING: Final = Code("18748-4", "LN", "Diagnostic imaging study")
RADIOLOGY: Final = Code("LP29684-5", "LN", "Radiology")  # the category that US Core files such reports under

# Modality (0008,0060) to the Playbook's kinds of imaging; what makes no diagnostic image of its own is passed over
_KINDS: Final = {"CR": "XR", "DX": "XR", "RG": "XR", "CT": "CT", "MR": "MR", "US": "US", "MG": "MG", "NM": "NM"}
_NO_IMAGES: Final = frozenset(
    {
        "SR",
        "PR",
        "KO",
        "SEG",
        "REG",
        "FID",
        "RWV",
        "DOC",
        "AU",
        "ECG",
        "HD",
        "PLAN",
        "M3D",
        "ANN",
        "RTSTRUCT",
        "RTPLAN",
        "RTDOSE",
    }
)

# Body part is said of a series (PS3.3 C.7.3.1), yet some equipment mixes parts in one: up to so many images are all looked at
_LOOKED_AT: Final = 100

# HL7 v2 table 0074 by kind of imaging
_SERVICES: Final = {
    "XR": ("RX", "Radiograph"), "CT": ("CT", "CAT Scan"), "MR": ("NMR", "Nuclear Magnetic Resonance"),
    "US": ("RUS", "Radiology Ultrasound"), "NM": ("NMS", "Nuclear Medicine Scan"),
}  # fmt: skip

# Body Part Examined (0018,0015; PS3.16 annex L) to the regions that the table knows, where the two words differ
_REGIONS: Final = {
    "THORAX": "CHEST", "LUNG": "CHEST", "BRAIN": "HEAD", "CSPINE": "CERVICAL SPINE", "TSPINE": "THORACIC SPINE",
    "LSPINE": "LUMBAR SPINE", "THYROID": "THYROID GLAND",
}  # fmt: skip
# The regions that have a code of their own (SNOMED CT, CID 4031), and two more by which Anatomic Region Sequence names them
REGION_CODES: Final = {
    "ABDOMEN": Code("113345001", "SCT", "Abdominal structure"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CERVICAL SPINE": Code("122494005", "SCT", "Cervical spine"),
    "CHEST": Code("51185008", "SCT", "Thoracic structure"),
    "ELBOW": Code("16953009", "SCT", "Elbow joint"),
    "FOOT": Code("56459004", "SCT", "Foot"),
    "HAND": Code("85562004", "SCT", "Hand"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "HIP": Code("29836001", "SCT", "Hip"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "LIVER": Code("10200004", "SCT", "Liver"),
    "LUMBAR SPINE": Code("122496007", "SCT", "Lumbar spine"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "PELVIS": Code("12921003", "SCT", "Pelvic structure"),
    "SHOULDER": Code("16982005", "SCT", "Shoulder"),
    "SKULL": Code("89546000", "SCT", "Bone structure of cranium"),
    "SPINE": Code("421060004", "SCT", "Spine"),
    "THORACIC SPINE": Code("122495006", "SCT", "Thoracic spine"),
}
_ANATOMY: Final = {code.value: region for region, code in REGION_CODES.items()} | {"39607008": "CHEST", "12738006": "HEAD"}

_LOINC: Final[dict[str, dict[str, Code]]] = {
    "XR": {
        "": Code("43468-8", "LN", "XR Unspecified body region Views"),
        "ABDOMEN": Code("37636-8", "LN", "XR Abdomen Views"),
        "ANKLE": Code("24541-5", "LN", "XR Ankle Views"),
        "CALCANEUS": Code("24612-4", "LN", "XR Calcaneus Views"),
        "CERVICAL SPINE": Code("24946-6", "LN", "XR Cervical spine Views"),
        "CHEST": Code("30745-4", "LN", "XR Chest Views"),
        "CLAVICLE": Code("24664-5", "LN", "XR Clavicle Views"),
        "COCCYX": Code("30883-3", "LN", "XR Coccyx Views"),
        "ELBOW": Code("24676-9", "LN", "XR Elbow Views"),
        "EXTREMITY": Code("37637-6", "LN", "XR Extremity Views"),
        "FEMUR": Code("24704-9", "LN", "XR Femur Views"),
        "FINGER": Code("24706-4", "LN", "XR Finger Views"),
        "FOOT": Code("24709-8", "LN", "XR Foot Views"),
        "HAND": Code("28582-5", "LN", "XR Hand Views"),
        "HIP": Code("24762-7", "LN", "XR Hip Views"),
        "HUMERUS": Code("28567-6", "LN", "XR Humerus Views"),
        "KNEE": Code("28565-0", "LN", "XR Knee Views"),
        "LUMBAR SPINE": Code("24972-2", "LN", "XR Lumbar spine Views"),
        "NECK": Code("37639-2", "LN", "XR Neck Views"),
        "PATELLA": Code("30791-8", "LN", "XR Patella Views"),
        "PELVIS": Code("28561-9", "LN", "XR Pelvis Views"),
        "RIB": Code("24899-7", "LN", "XR Ribs Views"),
        "SACRUM": Code("30884-1", "LN", "XR Sacrum Views"),
        "SCAPULA": Code("24903-7", "LN", "XR Scapula Views"),
        "SHOULDER": Code("24909-4", "LN", "XR Shoulder Views"),
        "SKULL": Code("28564-3", "LN", "XR Skull Views"),
        "SPINE": Code("28613-8", "LN", "XR Spine Views"),
        "STERNUM": Code("24994-6", "LN", "XR Sternum Views"),
        "THORACIC SPINE": Code("24983-9", "LN", "XR Thoracic spine Views"),
        "THUMB": Code("25006-8", "LN", "XR Thumb Views"),
        "TOE": Code("25013-4", "LN", "XR Toes Views"),
        "WRIST": Code("24619-9", "LN", "XR Wrist Views"),
    },
    "CT": {
        "": Code("25045-6", "LN", "CT Unspecified body region"),
        "ABDOMEN": Code("41806-1", "LN", "CT Abdomen"),
        "ANKLE": Code("35940-6", "LN", "CT Ankle"),
        "CERVICAL SPINE": Code("24932-6", "LN", "CT Cervical spine"),
        "CHEST": Code("24627-2", "LN", "CT Chest"),
        "ELBOW": Code("35962-0", "LN", "CT Elbow"),
        "EXTREMITY": Code("24690-0", "LN", "CT Extremity"),
        "FOOT": Code("35991-9", "LN", "CT Foot"),
        "HEAD": Code("24725-4", "LN", "CT Head"),
        "HEART": Code("58744-4", "LN", "CT Heart"),
        "HIP": Code("36014-9", "LN", "CT Hip"),
        "KNEE": Code("36037-0", "LN", "CT Knee"),
        "LIVER": Code("24814-6", "LN", "CT Liver"),
        "LUMBAR SPINE": Code("24963-1", "LN", "CT Lumbar spine"),
        "NECK": Code("36051-1", "LN", "CT Neck"),
        "ORBIT": Code("41807-9", "LN", "CT Orbit"),
        "PANCREAS": Code("24857-5", "LN", "CT Pancreas"),
        "PELVIS": Code("24865-8", "LN", "CT Pelvis"),
        "SACRUM": Code("36058-6", "LN", "CT Sacrum"),
        "SHOULDER": Code("36062-8", "LN", "CT Shoulder"),
        "SPINE": Code("28566-8", "LN", "CT Spine"),
        "SPLEEN": Code("24988-8", "LN", "CT Spleen"),
        "STERNUM": Code("36071-9", "LN", "CT Sternum"),
        "THORACIC SPINE": Code("24978-9", "LN", "CT Thoracic spine"),
        "WHOLEBODY": Code("46305-9", "LN", "CT Whole body"),
        "WRIST": Code("37428-0", "LN", "CT Wrist"),
    },
    "MR": {
        "": Code("25056-3", "LN", "MR Unspecified body region"),
        "ABDOMEN": Code("24556-3", "LN", "MR Abdomen"),
        "ANKLE": Code("24538-1", "LN", "MR Ankle"),
        "BREAST": Code("30794-2", "LN", "MR Breast"),
        "HAND": Code("24720-5", "LN", "MR Hand"),
        "HEAD": Code("24590-2", "LN", "MR Brain"),
        "HEART": Code("24748-6", "LN", "MR Heart"),
        "HIP": Code("36013-1", "LN", "MR Hip"),
        "KNEE": Code("24802-1", "LN", "MR Knee"),
        "LIVER": Code("36046-1", "LN", "MR Liver"),
        "LUMBAR SPINE": Code("24968-0", "LN", "MR Lumbar spine"),
        "NECK": Code("24839-3", "LN", "MR Neck"),
        "PANCREAS": Code("36052-9", "LN", "MR Pancreas"),
        "PELVIS": Code("24867-4", "LN", "MR Pelvis"),
        "PROSTATE": Code("30675-3", "LN", "MR Prostate"),
        "SHOULDER": Code("24905-2", "LN", "MR Shoulder"),
        "SPINE": Code("36067-7", "LN", "MR Spine"),
        "SPLEEN": Code("36070-1", "LN", "MR Spleen"),
        "THORACIC SPINE": Code("24980-5", "LN", "MR Thoracic spine"),
    },
    "US": {
        "": Code("25061-3", "LN", "US Unspecified body region"),
        "ABDOMEN": Code("24558-9", "LN", "US Abdomen"),
        "BREAST": Code("24601-7", "LN", "US Breast"),
        "CHEST": Code("24630-6", "LN", "US Chest"),
        "EXTREMITY": Code("24693-4", "LN", "US Extremity"),
        "GALLBLADDER": Code("24711-4", "LN", "US Gallbladder"),
        "HEAD": Code("24731-2", "LN", "US Head"),
        "HEART": Code("42148-7", "LN", "US Heart"),
        "HIP": Code("24760-1", "LN", "US Hip"),
        "KIDNEY": Code("38036-0", "LN", "US Kidney"),
        "LIVER": Code("28614-6", "LN", "US Liver"),
        "NECK": Code("24842-7", "LN", "US Neck"),
        "PANCREAS": Code("24859-1", "LN", "US Pancreas"),
        "PELVIS": Code("24869-0", "LN", "US Pelvis"),
        "SHOULDER": Code("24907-8", "LN", "US Shoulder"),
        "SPINE": Code("24926-8", "LN", "US Spine"),
        "SPLEEN": Code("24990-4", "LN", "US Spleen"),
        "THYROID GLAND": Code("25010-0", "LN", "US Thyroid gland"),
        "WRIST": Code("25036-5", "LN", "US Wrist"),
    },
    "MG": {
        "": Code("36625-2", "LN", "MG Breast Views"),
        "BREAST": Code("36625-2", "LN", "MG Breast Views"),
    },
    "NM": {
        "HEART": Code("39650-7", "LN", "NM Heart Views"),
        "KNEE": Code("24804-7", "LN", "NM Knee Views"),
        "LIVER": Code("39693-7", "LN", "NM Liver Views"),
    },
}


def carried(source: SourceStudy) -> tuple[Code, ...]:
    """The procedures that the images carry: as performed (Procedure Code Sequence), else as requested."""
    return source.procedures or source.requested


def study_procedures(source: SourceStudy, general: Code) -> tuple[Code, ...]:
    """What was done: as the images say, else the report's own code, where that says more than that there are images."""
    return carried(source) or ((general,) if general != DIAGNOSTIC_IMAGING else ())


def report_code(source: SourceStudy) -> Code:
    """What kind of report it is, in LOINC: as the images say, else by modality and body part, else a study of imaging."""
    said = [code for code in carried(source) if code.scheme == "LN"]
    return said[0] if len(said) == 1 else by_table(source) or DIAGNOSTIC_IMAGING


def by_table(source: SourceStudy) -> Code | None:
    """The LOINC code of the one modality and the one body part that the images name; None where the table has none."""
    kinds = {_KINDS.get(name, name) for name in source.modalities if name not in _NO_IMAGES}
    table = _LOINC.get(kinds.pop(), {}) if len(kinds) == 1 else {}
    headers = source.context.headers if len(source.by_uid) <= _LOOKED_AT else source.first_of_series().values()
    regions = set().union(*map(regions_of, headers))
    region = regions.pop() if len(regions) == 1 else ""
    return table.get(region) or table.get("")


def modality_category(source: SourceStudy) -> tuple[str, str] | None:
    """The diagnostic service (table 0074) of the study's one kind of imaging, with its display; None where mixed or unnamed."""
    kinds = {_KINDS.get(name, name) for name in source.modalities if name not in _NO_IMAGES}
    return _SERVICES.get(kinds.pop()) if len(kinds) == 1 else None


def regions_of(header: Dataset) -> set[str]:
    """The regions that one image names (of its series, PS3.3 C.7.3.1), by the words of this table where it knows them."""
    part = clean.text(header, "BodyPartExamined")
    coded = [clean.text(item, "CodeValue") for item in clean.items(header, "AnatomicRegionSequence")]
    found = {_REGIONS.get(part, part)} if part else {_ANATOMY.get(value, value) for value in coded}
    return found - {""}
