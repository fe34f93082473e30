"""C-FIND as SCP by the Study Root (PS3.4 C.4.1.3), over received studies and our own documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import StorageError
from dicom_node.index.search import Page, search
from dicom_node.ingest.services import Exchange, Request
from dicom_node.query.identifiers import Asked, Unusable, answer, read
from dicom_node.query.permissions import NOT_AUTHORIZED, Permissions
from dicom_node.storage.database import Database
from dicom_node.trail import Trail

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
SYNTAXES: Final = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
C_FIND: Final = 0x0020
SUCCESS, PENDING, PENDING_UNKNOWN_KEYS, CANCELLED = 0x0000, 0xFF00, 0xFF01, 0xFE00
OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE, UNRECOGNIZED = 0xA700, 0xA900, 0xC000, 0x0211


@dataclass(frozen=True, slots=True)
class FindService:
    """Implements ``ingest.services.Service``. ``most``: matches of one query. ``ae_title``: ours, told as Retrieve AE Title."""

    db: Database
    permissions: Permissions
    most: int
    ae_title: str
    trail: Trail
    sop_classes: frozenset[str] = frozenset({STUDY_ROOT_FIND})
    transfer_syntaxes: tuple[str, ...] = SYNTAXES
    gets: bool = False

    def serve(self, request: Request, exchange: Exchange) -> None:
        if request.field != C_FIND:
            return exchange.respond(UNRECOGNIZED)
        if not self.permissions.find(request.caller.calling_ae):
            return exchange.respond(NOT_AUTHORIZED, comment="C-FIND is not allowed to this AE title")
        syntax, caller = request.context.transfer_syntax, request.caller
        self.trail.asked(caller.calling_ae, caller.host, STUDY_ROOT_FIND, request.data_set, syntax)
        try:
            asked = read(request.data_set, syntax)
            page = search(self.db, asked.level, asked.keys, self.most)
        except Unusable as error:
            return exchange.respond(DOES_NOT_MATCH, comment=str(error)[:64])
        except StorageError:
            return exchange.respond(OUT_OF_RESOURCES, comment="The database is busy; ask again later")
        return self._tell(asked, page, syntax, exchange)

    def _tell(self, asked: Asked, page: Page, syntax: str, exchange: Exchange) -> None:
        status = PENDING_UNKNOWN_KEYS if asked.unknown else PENDING
        more = {"RetrieveAETitle": self.ae_title, "InstanceAvailability": "ONLINE"}
        for found in page.matches:
            if exchange.cancelled() or exchange.stopping:
                return exchange.respond(CANCELLED)
            exchange.respond(status, answer(asked, found, syntax, more))
        if page.more:
            comment = f"More than {self.most} matches; ask more narrowly"
            return exchange.respond(OUT_OF_RESOURCES, comment=comment)
        return exchange.respond(SUCCESS)
