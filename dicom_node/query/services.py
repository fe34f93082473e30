"""What the settings let peers ask of us on the listener's port."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dicom_node.archives import address_of
from dicom_node.ingest.services import Service
from dicom_node.pixels.limits import Limits
from dicom_node.query.committing import CommitmentService, Reporter
from dicom_node.query.finding import FindService
from dicom_node.query.judging import Judge, Promise
from dicom_node.query.permissions import permissions
from dicom_node.query.retrieving import GetService, MoveService
from dicom_node.query.transcoding import Transcoder
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.trail import Trail


def services(settings: Settings, db: Database, files: FileStore) -> Sequence[Service]:
    """Those that at least one peer may use; the others are not negotiated."""
    allowed, peers, trail = permissions(settings), settings.query.peers, Trail.of(settings, db, files)
    chosen, spare = settings.pixels, settings.listener.watermark_mb * 2**20
    transcoder = Transcoder(files, Limits(chosen.decoders, chosen.decoder_memory_mb, chosen.decoder_seconds), spare)
    found: list[Service] = []
    if any(one.find for one in peers):
        found.append(FindService(db, allowed, settings.query.most, settings.listener.ae_title, trail))
    if any(one.move_to for one in peers):
        found.append(MoveService(db, files, allowed, partial(address_of, settings), trail, transcoder))
    if any(one.get for one in peers):
        found.append(GetService(db, files, allowed, trail, transcoder))
    if any(one.commitment for one in peers):
        found.append(CommitmentService(db, allowed, _judge(settings, db, files), db.now))
    return found


def reporter(settings: Settings, db: Database, files: FileStore) -> Reporter:
    give_up_s = settings.query.report_hours * 3600
    return Reporter(db, _judge(settings, db, files), partial(address_of, settings), give_up_s, db.now)


def _judge(settings: Settings, db: Database, files: FileStore) -> Judge:
    """Received objects are promised only where nothing deletes them, and success means that they are safe."""
    rules = settings.retention
    durable, swept = settings.listener.durability == "full", bool(rules.high)
    received = durable and not rules.images_days and not swept
    return Judge(db, files, Promise(received, documents=not rules.documents_days and not swept))
