"""One study of the archive through the same flow as a live one; there is no way to deliver from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dicom_node.flow import Reader, ReadRequest, read_study
from dicom_node.pixels import PixelReader
from dicom_node.research.parts import Part, ReadFile, sha256_of
from dicom_node.research.search import SourceFile
from reporting.options import DocumentOptions


@dataclass(frozen=True, slots=True)
class StudyReader:
    """What every study of the run is read with. ``read_at`` (aware) and ``device_uid`` are the run's own."""

    reader: Reader
    read_at: datetime
    device_uid: str
    options: DocumentOptions
    pixels: PixelReader

    def read(self, study_uid: str, files: Sequence[SourceFile], revision: int) -> Part:
        """Read one study. Raises what ``flow.read_study`` raises, and OSError where a file has gone."""
        taken = _hashed(files)
        request = ReadRequest(
            study_instance_uid=study_uid,
            paths=tuple(file.place for file, read in zip(files, taken, strict=True) if not read.left_out),
            revision=revision,
            read_at=self.read_at,
            device_uid=self.device_uid,
        )
        return Part(study_uid, revision, taken, read_study(self.reader, request, self.options, self.pixels).reading)


def _hashed(files: Sequence[SourceFile]) -> tuple[ReadFile, ...]:
    """Of several files with one SOP Instance UID the first is read, as the live node does; the others are named."""
    first: dict[str, ReadFile] = {}
    read: list[ReadFile] = []
    for file in files:
        digest = sha256_of(file.place)
        entry = ReadFile(file.path, file.size, file.mtime_ns, digest, file.sop_instance_uid)
        earlier = first.setdefault(file.sop_instance_uid, entry) if file.sop_instance_uid else entry
        if earlier is not entry:
            bytes_ = "the same bytes" if earlier.sha256 == digest else "other bytes"
            entry = replace(entry, left_out=f"a second file of the same SOP Instance UID, with {bytes_}")
        read.append(entry)
    return tuple(read)
