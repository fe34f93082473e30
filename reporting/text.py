"""A structured report as plain text, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from reporting import clean, codes
from reporting.content import concept, walk
from reporting.errors import DocumentError


def sr_text(document: bytes) -> str:
    """The content tree of an SR (a Part 10 file), one item a line, two spaces a level; no patient data from the header.

    Raises DocumentError where the bytes are no readable SR.
    """
    with clean.quiet_headers():
        ds = _read(document)
        head = f"{ds.get('SeriesDescription', 'SR')} [{ds.get('CompletionFlag', '')}, {ds.get('VerificationFlag', '')}]"
        return "\n".join([head, *_lines(ds, 0)]) + "\n"


def sr_prose(document: bytes) -> str:
    """What an SR says in sentences: the text of its findings, or where none is coded so, all its text.

    Headings, codes, numbers and references are left out. Raises DocumentError as ``sr_text``.
    """
    with clean.quiet_headers():
        ds = _read(document)
        texts = [item for item in walk(ds) if item.get("ValueType") == "TEXT" and str(item.get("TextValue", "")).strip()]
        named = [item for item in texts if _is_finding(item)]
        return " ".join(str(item.TextValue).strip() for item in named or texts)


def _read(document: bytes) -> Dataset:
    try:
        ds = dcmread(BytesIO(document))
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise DocumentError("these bytes are no DICOM file") from error
    if "ValueType" not in ds:
        raise DocumentError("this DICOM file has no content tree: it is no structured report")
    return ds


def _is_finding(item: Dataset) -> bool:
    name = concept(item)
    return name is not None and (name.scheme, name.value) == (codes.FINDING.scheme, codes.FINDING.value)


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    name = concept(item)
    value = _value(item)
    yield f"{'  ' * depth}{name.meaning if name else item.ValueType}{': ' + value if value else ''}"
    for child in item.get("ContentSequence", ()):
        yield from _lines(child, depth + 1)


def _value(item: Dataset) -> str:
    match item.get("ValueType"):
        case "TEXT":
            return str(item.get("TextValue", ""))
        case "CODE":
            code = concept(item, "ConceptCodeSequence")
            return code.meaning if code else ""
        case "NUM":
            return _number(item)
        case "UIDREF":
            return str(item.get("UID", ""))
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            return _reference(item)
        case "PNAME":
            return str(item.get("PersonName", ""))
        case "DATE" | "TIME" | "DATETIME":
            return str(item.get("Date", "") or item.get("Time", "") or item.get("DateTime", ""))
        case _:
            return ""


def _number(item: Dataset) -> str:
    measured = item.get("MeasuredValueSequence") or ()
    if not measured:
        return ""
    unit = concept(measured[0], "MeasurementUnitsCodeSequence")
    return f"{measured[0].get('NumericValue', '')} {unit.value if unit else ''}".strip()


def _reference(item: Dataset) -> str:
    references = item.get("ReferencedSOPSequence") or ()
    if not references:
        return ""
    frame = references[0].get("ReferencedFrameNumber")
    return f"{references[0].get('ReferencedSOPInstanceUID', '')}{f' frame {frame}' if frame else ''}"
