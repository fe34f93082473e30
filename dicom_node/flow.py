"""The whole reading on one screen: instances → frames → Reading → documents. It returns documents; it sends nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import Chosen, Instance, PixelReader, shared_reader
from inference.reading import Frame, Reading, Skipped
from reporting.context import Document, Predecessor, StudyContext
from reporting.documents import build_documents
from reporting.errors import ContextError
from reporting.options import DocumentOptions


class Reader(Protocol):
    """What the flow needs of ``inference.engine.Engine``."""

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading: ...

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading: ...


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One study to read. ``read_at`` (aware) is fixed when the job is made: a retry makes the same documents."""

    study_instance_uid: str
    paths: tuple[Path, ...]
    revision: int
    read_at: datetime
    device_uid: str
    station_name: str = "WETREAD"
    institution: str = ""
    predecessors: tuple[Predecessor, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a study, and the images it was read from."""

    reading: Reading
    documents: tuple[Document, ...]
    frames: tuple[Frame, ...]


def read_study(reader: Reader, request: ReadRequest, options: DocumentOptions, pixels: PixelReader | None = None) -> Outcome:
    """Read a study and build its documents. ``pixels``: how its images are read; by default with the decoders of this process.

    What cannot be read is named in ``Reading.skipped``; a study with nothing to read gives a reading that says so.
    Raises ContextError where not one instance has a readable header, DeviceError where the device fails. A document that
    does not pass its checks has ``faults``.
    """
    pixels = pixels or shared_reader()
    instances, unreadable = _open(pixels, request.paths)
    selection = pixels.select(instances)
    frames, undecodable = _show(pixels, selection.chosen)
    reading = reader.read(frames, (*unreadable, *selection.skipped, *undecodable))
    return _document(reading, instances, request, options, frames, pixels.identity)


def refuse_study(reader: Reader, request: ReadRequest, options: DocumentOptions, reason: str) -> Outcome:
    """The documents of a study that could not be read, saying so: never silence. Raises as ``read_study``."""
    instances, unreadable = _open(shared_reader(), request.paths, and_missing=True)
    return _document(reader.refuse(reason, unreadable), instances, request, options, ())


def _open(
    pixels: PixelReader, paths: Sequence[Path], *, and_missing: bool = False
) -> tuple[list[Instance], tuple[Skipped, ...]]:
    """``and_missing``: pass over files that cannot be opened at all, which a first attempt waits for."""
    instances: list[Instance] = []
    skipped: list[Skipped] = []
    for path in paths:
        try:
            instances.append(pixels.open(path))
        except PixelError as error:
            skipped.append(Skipped(path.stem, str(error)))
        except StorageError:
            if not and_missing:
                raise
            skipped.append(Skipped(path.stem, "its file cannot be opened on the node"))
    return instances, tuple(skipped)


def _show(pixels: PixelReader, chosen: Sequence[Chosen]) -> tuple[tuple[Frame, ...], tuple[Skipped, ...]]:
    frames: list[Frame] = []
    skipped: list[Skipped] = []
    for one, shown in zip(chosen, pixels.show_each(chosen), strict=True):
        if isinstance(shown, Frame):
            frames.append(shown)
        else:
            skipped.append(Skipped(one.instance.sop_instance_uid, shown.reason))
    return tuple(frames), tuple(skipped)


def _document(
    reading: Reading,
    instances: list[Instance],
    request: ReadRequest,
    options: DocumentOptions,
    frames: tuple[Frame, ...],
    how: str = "",
) -> Outcome:
    if not instances:
        raise ContextError(f"none of the study's {len(request.paths)} instances has a readable header")
    used = {source.sop_instance_uid for source in reading.sources}
    evidence = [i for i in instances if i.sop_instance_uid in used] or instances
    context = StudyContext(
        study_instance_uid=request.study_instance_uid,
        headers=tuple(instance.header for instance in evidence),
        revision=request.revision,
        read_at=request.read_at,
        input_digest=_digest(instances, how),
        device_uid=request.device_uid,
        station_name=request.station_name,
        institution=request.institution,
        predecessors=request.predecessors,
    )
    return Outcome(reading, build_documents(reading, context, options, frames), frames)


def _digest(instances: Sequence[Instance], how: str) -> str:
    """sha256 over ``how`` the pictures are read and the instances' files in SOP Instance UID order."""
    total = hashlib.sha256(how.encode())
    for instance in sorted(instances, key=lambda i: str(i.header.get("SOPInstanceUID", ""))):
        with instance.path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
