"""A DICOM file, judged without its pixels: attributes, UIDs, references, content tree, templates."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.conformance.verdict import Status, Verdict
from reporting import clean
from reporting.conformance import promise_faults, standard_faults
from reporting.conformance.across import outline_of
from reporting.context import DocumentKind, Fault

_KINDS: Final = {
    Comprehensive3DSRStorage: DocumentKind.FINDINGS_SR,
    EnhancedSRStorage: DocumentKind.DRAFT_SR,
    BasicTextSRStorage: DocumentKind.TEXT_SR,
    SecondaryCaptureImageStorage: DocumentKind.HEAT_MAP,
    GrayscaleSoftcopyPresentationStateStorage: DocumentKind.HEAT_MAP_GSPS,
    EncapsulatedPDFStorage: DocumentKind.PDF,
}
_MAX_OURS: Final = 1 << 28  # bytes; our largest documents, read whole, are a hundredth of it
_MAX_DEFLATED: Final = 1 << 28  # bytes, inflated: a few kilobytes can grow to fill the memory
_CHUNK: Final = 1 << 20


def judge(path: Path, *, ours: bool) -> Verdict:
    """Raises OSError where the file cannot be read; whatever its bytes do to the reader becomes a fault."""
    whole = ours and path.stat().st_size <= _MAX_OURS
    with clean.quiet_headers():
        try:
            if _is_bomb(path):
                return Verdict(str(path), Status.UNUSABLE, "dicom", reason="the deflated data set is larger than 256 MiB")
            ds = dcmread(path, stop_before_pixels=not whole, force=True)
            return _verdict(str(path), ds, ours=ours, whole=whole)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  a damaged file may do anything to the reader
            fault = Fault("unreadable", "PS3.10 7, PS3.5 7", f"the object cannot be read ({type(error).__name__})")
            return Verdict(str(path), Status.FAULTY, "dicom", faults=(fault,))


def _verdict(file: str, ds: Dataset, *, ours: bool, whole: bool) -> Verdict:
    meta = getattr(ds, "file_meta", None) or Dataset()
    sop_class = str(ds.get("SOPClassUID") or "")
    if str(meta.get("MediaStorageSOPClassUID") or "") == MediaStorageDirectoryStorage:
        return Verdict(file, Status.SKIPPED, "dicom", reason="a DICOMDIR: a directory of files, no object")
    faults, notes = list(standard_faults(ds)), []
    if not meta:
        headless = Fault("file-meta", "PS3.10 7.1", "the file has no preamble and File Meta Information")
        faults = [headless, *(fault for fault in faults if fault.rule != "file-meta")]
    if clean.is_uid(sop_class) and any(fault.rule == "iod-class" for fault in faults):
        faults = [fault for fault in faults if fault.rule != "iod-class"]
        notes.append("the attributes of this SOP class are not known here: its UIDs, references and content tree were judged")
    if ours:
        more, note = _promises(ds, sop_class, whole=whole)
        faults += more
        notes += note
    kept = tuple(dict.fromkeys(faults))
    return Verdict(
        file, Status.FAULTY if kept else Status.OK, "dicom", _name(sop_class), kept, tuple(notes), "", outline_of(ds)
    )


def _promises(ds: Dataset, sop_class: str, *, whole: bool) -> tuple[list[Fault], list[str]]:
    kind = _KINDS.get(UID(sop_class))
    if kind is None:
        return [], ["no document of ours is of this SOP class: no promise was judged"]
    if not whole:
        return [], ["the file is larger than any document of ours: no promise was judged"]
    if kind is DocumentKind.DRAFT_SR and ds.get("VerificationFlag") == "VERIFIED":
        return [], ["a signed report: what is promised of drafts was not judged"]
    return list(promise_faults(ds, kind)), []


def _name(sop_class: str) -> str:
    name = UID(sop_class).name
    return "unknown SOP class" if not name or name == sop_class else name


def _is_bomb(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(128) or file.read(4) != b"DICM":
            return False
    if read_file_meta_info(path).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    with path.open("rb") as file:
        file.seek(_data_offset(path))
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        data = file.read(_CHUNK)
        while data and not inflater.eof:
            size += len(inflater.decompress(data, _CHUNK))
            data = inflater.unconsumed_tail or file.read(_CHUNK)
            if size > _MAX_DEFLATED:
                return True
    return False


def _data_offset(path: Path) -> int:
    return 128 + 4 + 12 + int(read_file_meta_info(path).get("FileMetaInformationGroupLength") or 0)
