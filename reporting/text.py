"""A structured report as plain text, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from reporting import clean
from reporting.content import concept
from reporting.errors import DocumentError


def sr_text(document: bytes) -> str:
    """The content tree of an SR (a Part 10 file), one item a line, two spaces a level; no patient data from the header.

    Raises DocumentError where the bytes are no readable SR.
    """
    with clean.quiet_headers():
        try:
            ds = dcmread(BytesIO(document))
        except (InvalidDicomError, EOFError, ValueError) as error:
            raise DocumentError("these bytes are no DICOM file") from error
        if "ValueType" not in ds:
            raise DocumentError("this DICOM file has no content tree: it is no structured report")
        head = f"{ds.get('SeriesDescription', 'SR')} [{ds.get('CompletionFlag', '')}, {ds.get('VerificationFlag', '')}]"
        return "\n".join([head, *_lines(ds, 0)]) + "\n"


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
