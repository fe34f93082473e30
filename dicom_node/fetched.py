"""Where fetched objects go: into the node's store, by the same durable way as those received by C-STORE, or into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import StorageError
from dicom_node.ingest.part10 import file_head
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.receive import OUT_OF_RESOURCES, PROCESSING_FAILURE, SUCCESS, Announced, Receiver, valid_uid
from dicom_node.remote.retrieving import Arrived
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.paths import make_folders, sync_folder, translated

_START: Final = 8192  # bytes of a data set in which most headers end


class Keeper:
    """A ``remote.retrieving.Keep`` into the node's store. ``own_ae``: our AE title, noted as the one called. To be closed."""

    def __init__(self, db: Database, files: FileStore, watermark_bytes: int, own_ae: str) -> None:
        self._receiver = Receiver(db, files, watermark_bytes)
        self._own_ae = own_ae

    def __call__(self, arrived: Arrived) -> int:
        """The status of a C-STORE response: success only when file and row are on the disk."""
        caller = Caller(arrived.sender, self._own_ae, "")
        announced = Announced(arrived.sop_class_uid, arrived.sop_uid, arrived.transfer_syntax, caller)
        file: ArrivingFile | None = None
        failure: StorageError | None = None
        start = b""
        try:
            file = self._receiver.begin(announced)
            for chunk in arrived.chunks:
                start += chunk[: max(_START - len(start), 0)]
                file.write(chunk)
        except StorageError as error:
            failure = error
        except BaseException:
            if file is not None:
                file.discard()
            raise
        return self._receiver.finish(announced, file, failure, start).status

    def close(self) -> None:
        self._receiver.close()


@dataclass(frozen=True, slots=True)
class FolderKeeper:
    """A ``remote.retrieving.Keep`` into a folder per study below ``root``: Part 10 files named by SOP Instance UID."""

    root: Path
    study_uid: str = ""

    def of(self, study_uid: str) -> FolderKeeper:
        return FolderKeeper(self.root, study_uid)

    def __call__(self, arrived: Arrived) -> int:
        if not valid_uid(arrived.sop_uid):
            return PROCESSING_FAILURE
        folder = self.root / (self.study_uid or "studies")
        target, part = folder / f"{arrived.sop_uid}.dcm", folder / f".{arrived.sop_uid}.part"
        try:
            with translated(target):
                make_folders(folder, self.root)
                with part.open("wb") as out:
                    out.write(file_head(arrived.sop_class_uid, arrived.sop_uid, arrived.transfer_syntax, arrived.sender))
                    out.writelines(arrived.chunks)
                    out.flush()
                    os.fsync(out.fileno())
                part.rename(target)
                sync_folder(folder)
        except StorageError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def count(self, study_uid: str) -> int:
        """How many instances of a study are there."""
        return sum(1 for _ in self._files(study_uid))

    def _files(self, study_uid: str) -> Iterator[Path]:
        return (self.root / study_uid).glob("[!.]*.dcm")
