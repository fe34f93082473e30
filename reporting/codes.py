"""Every coded concept of our documents, in one table, and the coding schemes they come from (PS3.16 section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.reading import Code, Decision, Method, Urgency
from reporting.comparison import Change
from reporting.uids import PRIVATE_SCHEME_UID

PRIVATE_SCHEME: Final = "99WETREAD"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A coding scheme: its DICOM designator and UID (PS3.16 table 8-1), and the URI that FHIR knows it by.

    ``version``: the release that this table was compared with (Coding Scheme Version, PS3.3 C.12.1.1.8). Empty where a code
    value keeps its meaning in every release and the site's catalogues choose theirs (SNOMED CT, LOINC, RadLex, UMLS), or where
    the scheme has none. The designator alone identifies each code (PS3.3 8.2), so no single code carries it.
    """

    designator: str
    uid: str
    uri: str
    name: str
    version: str = ""


SCHEMES: Final = {
    scheme.designator: scheme
    for scheme in (
        Scheme(
            "DCM",
            "1.2.840.10008.2.16.4",
            "http://dicom.nema.org/resources/ontology/DCM",
            "DICOM Controlled Terminology",
            "2024c",
        ),
        Scheme("SCT", "2.16.840.1.113883.6.96", "http://snomed.info/sct", "SNOMED CT"),
        Scheme("LN", "2.16.840.1.113883.6.1", "http://loinc.org", "LOINC"),
        Scheme("UCUM", "2.16.840.1.113883.6.8", "http://unitsofmeasure.org", "UCUM"),
        Scheme("UMLS", "2.16.840.1.113883.6.86", "http://terminology.hl7.org/CodeSystem/umls", "UMLS"),
        Scheme("RADLEX", "2.16.840.1.113883.6.256", "http://radlex.org", "RadLex"),
        Scheme("RFC5646", "2.16.840.1.113883.6.316", "urn:ietf:bcp:47", "Tags for Identifying Languages"),
        Scheme(PRIVATE_SCHEME, PRIVATE_SCHEME_UID, f"urn:oid:{PRIVATE_SCHEME_UID}", "WetRead", "1"),
    )
}

# Document titles, sections and text (CID 7021, 7000, 7001, 7002)
IMAGING_MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
DIAGNOSTIC_IMAGING_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")
FINDINGS: Final = Code("59776-5", "LN", "Findings")
IMPRESSIONS: Final = Code("19005-8", "LN", "Impressions")
FINDING: Final = Code("121071", "DCM", "Finding")
IMPRESSION: Final = Code("121073", "DCM", "Impression")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
COMMENT: Final = Code("121106", "DCM", "Comment")

# Context (TID 1001, 1004, 1204, 1500)
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")
LANGUAGES: Final = {
    code.value: code
    for code in (Code("en", "RFC5646", "English"), Code("de", "RFC5646", "German"), Code("es", "RFC5646", "Spanish"))
}
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")
DEVICE: Final = Code("121007", "DCM", "Device")
PERSON: Final = Code("121006", "DCM", "Person")
PERSON_OBSERVER_NAME: Final = Code("121008", "DCM", "Person Observer Name")
PERSON_OBSERVER_ORGANIZATION: Final = Code("121009", "DCM", "Person Observer's Organization Name")
DEVICE_OBSERVER_UID: Final = Code("121012", "DCM", "Device Observer UID")
DEVICE_OBSERVER_NAME: Final = Code("121013", "DCM", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL: Final = Code("121015", "DCM", "Device Observer Model Name")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")

# Image library (TID 1600, 1602)
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
MODALITY: Final = Code("121139", "DCM", "Modality")
SOURCE_IMAGE: Final = Code("260753009", "SCT", "Source")

# Findings (TID 1501, 4019, 4108)
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_MANUFACTURER: Final = Code("122405", "DCM", "Algorithm Manufacturer")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")
LATERALITY: Final = Code("272741003", "SCT", "Laterality")
PRESENCE: Final = Code("121052", "DCM", "Presence of property")
MEASUREMENT_METHOD: Final = Code("370129005", "SCT", "Measurement Method")
AGGREGATION: Final = Code("AGGREGATION", PRIVATE_SCHEME, "Aggregation of images")
CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")
PERCENT: Final = Code("%", "UCUM", "Percent")
SOURCE_FOR_PROCESSING: Final = Code("121322", "DCM", "Source image for image processing operation")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")

# CID 240: the three answers to "is it there?"
PRESENT: Final = Code("52101004", "SCT", "Present")
ABSENT: Final = Code("272519000", "SCT", "Absent")
UNDETERMINED: Final = Code("373068000", "SCT", "Undetermined")
PRESENCE_OF: Final = {Decision.POSITIVE: PRESENT, Decision.NEGATIVE: ABSENT, Decision.NOT_ASSESSABLE: UNDETERMINED}

# Comparison with earlier studies (CID 7001, 7002, 7003; TID 1005, 1602)
PREVIOUS_FINDINGS: Final = Code("18834-2", "LN", "Previous Findings")
PREVIOUS_FINDING: Final = Code("121069", "DCM", "Previous Finding")
PROCEDURE_STUDY_UID: Final = Code("121018", "DCM", "Procedure Study Instance UID")
STUDY_DATE: Final = Code("111060", "DCM", "Study Date")
STUDY_TIME: Final = Code("111061", "DCM", "Study Time")
BASELINE: Final = Code("121079", "DCM", "Baseline")

# What no public scheme has a word for
THRESHOLD: Final = Code("THRESHOLD", PRIVATE_SCHEME, "Decision threshold")
URGENCY: Final = Code("URGENCY", PRIVATE_SCHEME, "Urgency if present")
SENTENCE_CONFIDENCE: Final = Code("CONFIDENCE", PRIVATE_SCHEME, "Sentence confidence")
NOTICE: Final = Code("NOTICE", PRIVATE_SCHEME, "Notice")
CATALOGUE: Final = Code("CATALOGUE", PRIVATE_SCHEME, "Catalogue of findings")
OUTCOME: Final = Code("OUTCOME", PRIVATE_SCHEME, "Reading outcome")
ASSESSED: Final = Code("ASSESSED", PRIVATE_SCHEME, "Assessed")
NOT_ASSESSABLE: Final = Code("NOTASSESSABLE", PRIVATE_SCHEME, "Not assessable")
URGENCY_OF: Final = {
    Urgency.STAT: Code("STAT", PRIVATE_SCHEME, "STAT"),
    Urgency.URGENT: Code("URGENT", PRIVATE_SCHEME, "Urgent"),
    Urgency.ROUTINE: Code("ROUTINE", PRIVATE_SCHEME, "Routine"),
}
# DICOM's own words for change (CID 6002) speak of mammograms or of size; "no change" would say more than two answers do
CHANGE: Final = Code("CHANGE", PRIVATE_SCHEME, "Change since the earlier study")
CHANGE_OF: Final = {
    Change.NEW: Code("NEW", PRIVATE_SCHEME, "New"),
    Change.KNOWN: Code("KNOWN", PRIVATE_SCHEME, "Known"),
    Change.GONE: Code("GONE", PRIVATE_SCHEME, "No longer seen"),
    Change.ABSENT: Code("NOTSEEN", PRIVATE_SCHEME, "Not seen"),
    Change.NOT_COMPARABLE: Code("NOTCOMPARABLE", PRIVATE_SCHEME, "Not comparable"),
}
METHOD_OF: Final = {
    Method.ZERO_SHOT: Code("ZEROSHOT", PRIVATE_SCHEME, "Zero-shot classification"),
    Method.CALIBRATED: Code("CALIBRATED", PRIVATE_SCHEME, "Zero-shot classification, calibrated"),
    Method.PROBE: Code("PROBE", PRIVATE_SCHEME, "Probe fitted on labelled images"),
}

# CID 29 by the defined terms of Modality (0008,0060), which are the code values themselves
MODALITIES: Final = {
    code.value: code
    for code in (
        Code("CR", "DCM", "Computed Radiography"),
        Code("CT", "DCM", "Computed Tomography"),
        Code("DX", "DCM", "Digital Radiography"),
        Code("ES", "DCM", "Endoscopy"),
        Code("GM", "DCM", "General Microscopy"),
        Code("IO", "DCM", "Intra-oral Radiography"),
        Code("MG", "DCM", "Mammography"),
        Code("MR", "DCM", "Magnetic Resonance"),
        Code("NM", "DCM", "Nuclear Medicine"),
        Code("OP", "DCM", "Ophthalmic Photography"),
        Code("PT", "DCM", "Positron emission tomography"),
        Code("PX", "DCM", "Panoramic X-Ray"),
        Code("RF", "DCM", "Radiofluoroscopy"),
        Code("RG", "DCM", "Radiographic imaging"),
        Code("SM", "DCM", "Slide Microscopy"),
        Code("US", "DCM", "Ultrasound"),
        Code("XA", "DCM", "X-Ray Angiography"),
        Code("XC", "DCM", "External-camera Photography"),
    )
}
OTHER_MODALITY: Final = Code("OT", "DCM", "Other")

# CID 100: the imaging procedure where the study's own headers do not code it
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
_RADIOGRAPHY: Final = Code("43468-8", "LN", "XR unspecified body region")
PROCEDURES: Final = {
    "CR": _RADIOGRAPHY,
    "DX": _RADIOGRAPHY,
    "RG": _RADIOGRAPHY,
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "US": Code("16310003", "SCT", "Diagnostic ultrasonography"),
    "MG": Code("71651007", "SCT", "Mammography"),
    "XA": Code("77343006", "SCT", "Angiography"),
    "RF": Code("44491008", "SCT", "Fluoroscopy"),
}


def language(tag: str) -> Code:
    """CID 5000: a tag of RFC 5646, with its country where it has one."""
    known, country = LANGUAGES[tag.split("-")[0]], tag.partition("-")[2]
    return Code(tag, known.scheme, f"{known.meaning} ({country})") if country else known


def all_codes() -> tuple[Code, ...]:
    """Every concept of this module, each once, in the order written."""
    found: dict[Code, None] = {}
    for value in globals().copy().values():
        if isinstance(value, Code):
            found[value] = None
        elif isinstance(value, dict):
            found.update(dict.fromkeys(code for code in value.values() if isinstance(code, Code)))
    return tuple(found)
