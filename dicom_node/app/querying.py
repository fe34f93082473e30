"""What we and other archives ask of each other: the listener's services, and the threads that make answers and fetch priors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

if TYPE_CHECKING:
    from dicom_node.ingest.services import ServiceMaker


def service_maker(settings: Settings) -> ServiceMaker:
    """For the listener; it loads nothing where no peer may ask for anything."""
    from dicom_node.ingest.services import no_services

    if not settings.query.peers:
        return no_services
    from dicom_node.query.services import services

    return partial(services, settings)


@contextmanager
def answering(settings: Settings, db: Database, files: FileStore, stop: threading.Event) -> Iterator[None]:
    """While the body runs: the index is kept, commitments are reported, priors are fetched. Ends when ``stop`` is set."""
    threads = list(_threads(settings, db, files, stop))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _threads(settings: Settings, db: Database, files: FileStore, stop: threading.Event) -> Iterator[threading.Thread]:
    every = settings.query.poll_seconds
    if settings.query.searched or settings.web.dicomweb:
        from dicom_node.index.indexer import Indexer

        yield threading.Thread(target=Indexer(db, files, db.now).run, args=(stop, every), name="index")
    if any(one.commitment for one in settings.query.peers):
        from dicom_node.query.services import reporter

        yield threading.Thread(target=reporter(settings, db, files).run, args=(stop, every), name="commitment-answers")
    if settings.study.archive is not None:
        from dicom_node.archives import archive_of
        from dicom_node.fetched import Keeper
        from dicom_node.priors.seeking import Seeker

        keeper = Keeper(db, files, settings.listener.watermark_mb * 2**20, settings.listener.ae_title)
        seeker = Seeker(db, files, archive_of(settings, settings.study.archive, keeper), db.now)
        yield threading.Thread(target=seeker.run, args=(stop,), name="priors")
