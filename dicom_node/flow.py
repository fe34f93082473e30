"""The whole reading on one screen: instances → frames → Reading → documents. It returns documents; it sends nothing."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import Chosen, Instance, PixelReader, shared_reader
from dicom_node.pixels.scanner import scanner_of
from inference.reading import Frame, Reading, Skipped
from reporting.comparison import PriorReading
from reporting.context import Document, DocumentKind, Predecessor, StudyContext
from reporting.documents import build_documents
from reporting.errors import ContextError
from reporting.options import DocumentOptions

_NAMED: Final = 100  # instances that the refusal of a study with too many names
_AT_ONCE: Final = 16  # frames between two looks at the bounds


class Reader(Protocol):
    """What the flow needs of ``inference.engine.Engine``."""

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading: ...

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading: ...


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One study to read. ``read_at`` (aware) is fixed when the job is made: a retry makes the same documents.

    ``missing``: instances that the node once had and has no more, and why. ``priors``: readings to compare with.
    """

    study_instance_uid: str
    paths: tuple[Path, ...]
    revision: int
    read_at: datetime
    device_uid: str
    station_name: str = "WETREAD"
    institution: str = ""
    predecessors: tuple[Predecessor, ...] = ()
    missing: tuple[Skipped, ...] = ()
    priors: tuple[PriorReading, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one study may take: seconds until its pictures are there, instances, and MiB of memory for its pictures."""

    seconds: float = math.inf
    instances: float = math.inf
    memory_mb: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A study with its pictures, ready for the models.

    ``digest``: of what it is read from. ``refusal``: which bound it broke, and then it is not to be read. ``slow``: that was
    the bound of time, so that another try may go better.
    """

    request: ReadRequest
    instances: tuple[Instance, ...]
    frames: tuple[Frame, ...]
    skipped: tuple[Skipped, ...]
    digest: str
    refusal: str = ""
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a study, and the images it was read from. ``scanner``: see ``pixels.scanner``."""

    reading: Reading
    documents: tuple[Document, ...]
    frames: tuple[Frame, ...]
    scanner: str = ""


class _Broken(Exception):  # noqa: N818
    """The study breaks a bound."""

    def __init__(self, reason: str, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.slow = reason, slow


def read_study(reader: Reader, request: ReadRequest, options: DocumentOptions, pixels: PixelReader | None = None) -> Outcome:
    """Read a study and build its documents. ``pixels``: how its images are read; by default with the decoders of this process.

    What cannot be read is named in ``Reading.skipped``; a study with nothing to read gives a reading that says so.
    Raises ContextError where not one instance has a readable header, DeviceError where the device fails. A document that
    does not pass its checks has ``faults``.
    """
    prepared = prepare(request, pixels or shared_reader())
    return document(prepared, reader.read(prepared.frames, prepared.skipped), options)


def refuse_study(reader: Reader, request: ReadRequest, options: DocumentOptions, reason: str) -> Outcome:
    """The documents of a study that could not be read, saying so: never silence. Raises as ``read_study``."""
    prepared = prepare_refusal(request, shared_reader(), Bounds())
    return document(prepared, reader.refuse(reason, prepared.skipped), options)


def prepare(request: ReadRequest, pixels: PixelReader, bounds: Bounds | None = None) -> Prepared:
    """Open a study's instances, choose its frames and show them. Raises StorageError where a file cannot be opened now.

    A study that breaks a bound has a ``refusal``, and the instances that were open by then.
    """
    bounds = bounds or Bounds()
    instances: list[Instance] = []
    skipped = list(request.missing)
    try:
        _check_count(request, bounds)
        clock = _Clock(bounds.seconds)
        _open(pixels, request.paths, instances, skipped, clock)
        selection = pixels.select(instances)
        frames, undecodable = _show(pixels, selection.chosen, bounds, clock)
        digest = _digest(instances, pixels.identity, clock)
    except _Broken as broken:
        if not instances:
            _open(pixels, request.paths[:_NAMED], instances, skipped, _Clock(), and_missing=True)
        return _refused(request, instances, skipped, broken.reason, slow=broken.slow)
    return Prepared(request, tuple(instances), frames, (*skipped, *selection.skipped, *undecodable), digest)


def prepare_refusal(request: ReadRequest, pixels: PixelReader, bounds: Bounds) -> Prepared:
    """As much of a study as is needed to say that it cannot be read: no pictures, and files that are gone are passed over."""
    instances: list[Instance] = []
    skipped = list(request.missing)
    paths = request.paths if len(request.paths) <= bounds.instances else request.paths[:_NAMED]
    clock = _Clock(bounds.seconds)
    try:
        _open(pixels, paths, instances, skipped, clock, and_missing=True)
        digest = _digest(instances, "", clock)
    except _Broken as broken:
        return _refused(request, instances, skipped, broken.reason, slow=True)
    return Prepared(request, tuple(instances), (), tuple(skipped), digest)


def document(
    prepared: Prepared,
    reading: Reading,
    options: DocumentOptions,
    only: Collection[DocumentKind] = frozenset(DocumentKind),
) -> Outcome:
    """The documents of a reading of this study, of the kinds that ``options`` names and that are wanted now.

    Raises ContextError where not one instance has a readable header.
    """
    request, instances = prepared.request, prepared.instances
    if not instances:
        raise ContextError(f"none of the study's {len(request.paths)} instances has a readable header")
    used = {source.sop_instance_uid for source in reading.sources}
    evidence = [i for i in instances if i.sop_instance_uid in used] or instances
    context = StudyContext(
        study_instance_uid=request.study_instance_uid,
        headers=tuple(instance.header for instance in evidence),
        revision=request.revision,
        read_at=request.read_at,
        input_digest=prepared.digest,
        device_uid=request.device_uid,
        station_name=request.station_name,
        institution=request.institution,
        predecessors=request.predecessors,
        priors=request.priors,
    )
    built = build_documents(reading, context, options, prepared.frames, only)
    return Outcome(reading, built, prepared.frames, scanner_of(instances))


class _Clock:
    """The time that one study may take."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise _Broken(f"opening and decoding its images took longer than the {self._seconds:g} s allowed", slow=True)


def _check_count(request: ReadRequest, bounds: Bounds) -> None:
    if len(request.paths) > bounds.instances:
        raise _Broken(f"it has {len(request.paths)} instances, more than the {bounds.instances:g} allowed")


def _open(
    pixels: PixelReader,
    paths: Sequence[Path],
    instances: list[Instance],
    skipped: list[Skipped],
    clock: _Clock,
    *,
    and_missing: bool = False,
) -> None:
    """Into ``instances`` and ``skipped``. ``and_missing``: pass over files that cannot be opened at all, which a first
    attempt waits for."""
    for path in paths:
        clock.check()
        try:
            instances.append(pixels.open(path))
        except PixelError as error:
            skipped.append(Skipped(path.stem, str(error)))
        except StorageError:
            if not and_missing:
                raise
            skipped.append(Skipped(path.stem, "its file cannot be opened on the node"))


def _show(
    pixels: PixelReader, chosen: Sequence[Chosen], bounds: Bounds, clock: _Clock
) -> tuple[tuple[Frame, ...], tuple[Skipped, ...]]:
    frames: list[Frame] = []
    skipped: list[Skipped] = []
    for part in _parts(chosen):
        clock.check()
        for one, shown in zip(part, pixels.show_each(part), strict=True):
            if isinstance(shown, Frame):
                frames.append(shown)
            else:
                skipped.append(Skipped(one.instance.sop_instance_uid, shown.reason))
        if sum(frame.pixels.nbytes for frame in frames) > bounds.memory_mb * 2**20:
            raise _Broken(f"its pictures take more than the {bounds.memory_mb:g} MiB of memory allowed")
    return tuple(frames), tuple(skipped)


def _parts(chosen: Sequence[Chosen]) -> Iterator[Sequence[Chosen]]:
    return (chosen[start : start + _AT_ONCE] for start in range(0, len(chosen), _AT_ONCE))


def _refused(
    request: ReadRequest, instances: Sequence[Instance], skipped: Sequence[Skipped], reason: str, *, slow: bool
) -> Prepared:
    """Its digest names what it was refused for: a later reading of the same images makes other documents."""
    named = "\n".join((reason, *sorted(instance.sop_instance_uid for instance in instances)))
    digest = hashlib.sha256(named.encode()).hexdigest()
    return Prepared(request, tuple(instances), (), tuple(skipped), digest, reason, slow)


def _digest(instances: Sequence[Instance], how: str, clock: _Clock) -> str:
    """sha256 over ``how`` the pictures are read and the instances' files in SOP Instance UID order."""
    total = hashlib.sha256(how.encode())
    for instance in sorted(instances, key=lambda i: str(i.header.get("SOPInstanceUID", ""))):
        clock.check()
        with instance.path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
