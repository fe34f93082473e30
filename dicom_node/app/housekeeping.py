"""What the delivering process does besides: it keeps house for all machines, and sends the audit trail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node.errors import StorageError
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.owner import current_owner

if TYPE_CHECKING:
    from dicom_node.audit import Auditor
    from dicom_node.keeping.keeper import Chore
    from dicom_node.keeping.retention import Retention

_PURGE_EVERY_S: Final = 600.0
_RELIEVE_EVERY_S: Final = 30.0
_SWEEP_EVERY_S: Final = 600.0  # one of 256 parts of the store: all of it in two days
_FOLD_EVERY_S: Final = 30.0
_DERIVE_EVERY_S: Final = 15.0
_log = structlog.get_logger()


@contextmanager
def housekeeping(settings: Settings, db: Database, files: FileStore, stop: threading.Event) -> Iterator[None]:
    """The keeper and the audit sender, as long as the body runs; both end when ``stop`` is set."""
    from dicom_node.keeping.keeper import Keeper

    keeper = Keeper(db, chores(settings, db, files), current_owner("keeper"))
    services: list[tuple[str, Callable[[threading.Event], None]]] = [("keeper", keeper.run)]
    if settings.audit.repository is not None:
        from dicom_node.audit.sender import AuditSender
        from dicom_node.audit.transport import transport_of

        transport = transport_of(settings, settings.audit.repository)
        services.append(("audit", AuditSender(db, transport, current_owner("audit")).run))
    threads = [threading.Thread(target=run, args=(stop,), name=name) for name, run in services]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def chores(settings: Settings, db: Database, files: FileStore) -> tuple[Chore, ...]:
    """What is done now and then, by one process of all the machines. Audit first: nothing goes before it is told of."""
    from dicom_node.audit import Auditor
    from dicom_node.audit.derive import derive
    from dicom_node.keeping.keeper import Chore

    auditor = Auditor.of(settings, files)
    keep = retention(settings, db, files, auditor)
    telling = (Chore("audit", _DERIVE_EVERY_S, lambda _stop: _ignore(derive(db, auditor, db.now()))),) if auditor.kept else ()
    return (
        *telling,
        Chore("purge", _PURGE_EVERY_S, lambda stop: _ignore(keep.purge(stop))),
        Chore("relieve", _RELIEVE_EVERY_S, lambda stop: _ignore(keep.relieve(stop))),
        Chore("sweep", _SWEEP_EVERY_S, keep.sweep),
        Chore("drift", _FOLD_EVERY_S, lambda _stop: _fold(settings, db)),
    )


def retention(settings: Settings, db: Database, files: FileStore, auditor: Auditor) -> Retention:
    """The settings' retention over this store."""
    from dicom_node.audit.derive import derive
    from dicom_node.keeping.purge import Purger
    from dicom_node.keeping.retention import Retention

    purger = Purger(db, files, auditor, lambda: derive(db, auditor, db.now()))
    return Retention(db, files, settings.retention, purger, db.now)


def begin_trail(settings: Settings, db: Database) -> None:
    """Before the first image comes: what was received earlier is not told of, everything from now on is."""
    if settings.audit.repository is not None:
        from dicom_node.storage.audit import hold_mark

        with db.write() as connection:
            hold_mark(connection, "instances")
            hold_mark(connection, "events")


@contextmanager
def audited(settings: Settings, db: Database, files: FileStore) -> Iterator[None]:
    """Application Activity: this process started, and stopped in an orderly way. A crash leaves no stop (PS3.15 A.5.3.1)."""
    from dicom_node.audit import Auditor, events

    auditor = Auditor.of(settings, files)

    def tell(*, started: bool) -> None:
        try:
            with db.write() as connection:
                auditor.record(connection, events.activity(auditor.node, started=started), db.now())
        except StorageError as error:
            _log.error("the audit trail lacks a start or stop", error=str(error))

    if not auditor.kept:
        yield
        return
    tell(started=True)
    try:
        yield
    finally:
        tell(started=False)


def _fold(settings: Settings, db: Database) -> None:
    """An idle node loads no statistics."""
    from dicom_node.storage.drift import waiting_keys

    with db.read() as connection:
        if not settings.drift.enabled or not waiting_keys(connection):
            return
    from dicom_node.drift.fold import fold

    fold(db, settings.drift, db.now())


def _ignore(_result: object) -> None:
    """What a chore has to say it has logged."""
