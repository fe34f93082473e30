"""Storage commitment over the association of the request (PS3.4 J.3.3), with pynetdicom as the peer that waits, or does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node.errors import StorageBusy
from dicom_node.fetched import Keeper
from dicom_node.ingest.configured import listener_settings
from dicom_node.ingest.listener import Listener
from dicom_node.phantom_dicom import phantom_ct
from dicom_node.query.judging import Judge
from dicom_node.query.services import reporter, services
from dicom_node.remote.commitment import Report, read_report
from dicom_node.settings import Settings
from dicom_node.storage.commitments_asked import AskState, take_due
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from tests.dicom_node.fetching import arrived
from tests.dicom_node.query.test_services import action

HELD, GONE = "1.2.3.9.1", "1.2.3.4.5"
LONG_S = 60.0
RETENTION = {"images_days": 0, "high": None, "low": None}


class Ward:
    """A listener with one image, and what its database says of requests."""

    def __init__(self, folder: Path) -> None:
        peers = {"peers": [{"ae_title": "ALL", "commitment": True}], "addresses": {"ALL": {"host": "127.0.0.1", "port": 1}}}
        listener = {"port": 0, "allow_any": True, "watermark_mb": 0}
        told = {"data": folder, "listener": listener, "query": peers, "retention": RETENTION}
        self.settings = Settings.model_validate(told)
        self.db, self.files = Database.open(folder / "node.sqlite"), FileStore(folder)
        self.keeper = Keeper(self.db, self.files, 0, "WETREAD")
        (image,) = phantom_ct(1, 1, size=16, patient_id="P", study_uid="1.2.3")
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = HELD
        assert self.keeper(arrived(image)) == 0
        made = listener_settings(self.settings)
        self.listener = Listener(made, self.db, self.files, services=partial(services, self.settings))
        self.listener.start()

    def state(self, transaction: str) -> tuple[str, float]:
        """Where a request stands, and in how many seconds somebody else may take it up."""
        text = "SELECT state, next_at FROM commitments_asked WHERE transaction_uid = ?"
        with self.db.read() as conn:
            state, next_at = conn.exec_driver_sql(text, (transaction,)).one()
        return str(state), float(next_at) - self.db.now()

    def is_reported(self, transaction: str) -> bool:
        return self.state(transaction)[0] == AskState.REPORTED

    def close(self) -> None:
        self.listener.stop(0)
        self.keeper.close()
        self.db.close()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    made = Ward(tmp_path_factory.mktemp("ward"))
    yield made
    made.close()


@contextmanager
def asking(ward: Ward, heard: Callable[[Any], Any]) -> Iterator[Any]:
    entity = AE("ALL")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = LONG_S
    for one in (StorageCommitmentPushModel, Verification):
        entity.add_requested_context(one)
    handlers = [(evt.EVT_N_EVENT_REPORT, heard)]
    association = entity.associate("127.0.0.1", ward.listener.port, ae_title="WETREAD", evt_handlers=handlers)
    assert association.is_established
    yield association
    if association.is_established:
        association.release()


def ask(association: Any, transaction: str, *uids: str) -> int:
    request = action(transaction, *((CTImageStorage, uid) for uid in uids))
    told, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    return int(told.Status)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Hearing:
    """Answers reports with ``status``."""

    def __init__(self, status: int = 0x0000) -> None:
        self.reports: list[Report] = []
        self.status, self.came = status, threading.Event()

    def __call__(self, event: Any) -> tuple[int, Dataset | None]:
        self.reports.append(read_report(int(event.request.EventTypeID), event.event_information))
        self.came.set()
        return self.status, None


def test_a_peer_that_waits_is_told_on_its_own_association_and_once(ward: Ward) -> None:
    hearing = Hearing()
    with asking(ward, hearing) as association:
        assert ask(association, "1.2.30", HELD, GONE) == 0x0000
        assert hearing.came.wait(LONG_S)
        until(partial(ward.is_reported, "1.2.30"))
        assert association.send_c_echo().Status == 0x0000  # the association goes on
    assert hearing.reports == [Report("1.2.30", frozenset({HELD}), {GONE: 0x0112})]
    assert reporter(ward.settings, ward.db, ward.files).step() == 0


def test_several_requests_of_one_association_are_told_each(ward: Ward) -> None:
    hearing = Hearing()
    names = [f"1.2.31.{number}" for number in range(1, 4)]
    with asking(ward, hearing) as association:
        for name in names:
            assert ask(association, name, HELD) == 0x0000
            until(partial(ward.is_reported, name))
    assert [one.transaction_uid for one in hearing.reports] == names


def test_a_peer_that_ends_its_association_at_once_is_left_to_the_reporter(ward: Ward) -> None:
    hearing = Hearing()
    with asking(ward, hearing) as association:
        assert ask(association, "1.2.32", HELD) == 0x0000
    until(lambda: ward.state("1.2.32")[1] <= 0)  # released, or reported: nobody waits for the end of a claim
    if not hearing.reports:
        assert ward.state("1.2.32")[0] == AskState.WAITING


def test_a_report_that_the_peer_does_not_take_is_left_to_the_reporter(ward: Ward) -> None:
    hearing = Hearing(0x0110)
    with asking(ward, hearing) as association:
        assert ask(association, "1.2.33", HELD) == 0x0000
        assert hearing.came.wait(LONG_S)
        until(lambda: ward.state("1.2.33")[1] <= 5)
    assert ward.state("1.2.33")[0] == AskState.WAITING


def test_a_peer_that_dies_with_the_report_unanswered_is_called_after_our_claim(ward: Ward) -> None:
    class Dying(Hearing):
        def __call__(self, event: Any) -> tuple[int, Dataset | None]:
            self.came.set()
            event.assoc.abort()
            return 0x0110, None

    hearing = Dying()
    with asking(ward, hearing) as association:
        assert ask(association, "1.2.34", HELD) == 0x0000
        assert hearing.came.wait(LONG_S)
    state, claimed_s = ward.state("1.2.34")
    assert (state, 0 < claimed_s <= 30) == (AskState.WAITING, True)
    assert "1.2.34" not in {one.transaction_uid for one in take_due(ward.db, 0, ward.db.now())}


def test_the_same_request_again_while_its_report_waits_is_not_told_here(ward: Ward) -> None:
    """Somebody else may be telling it."""
    first, again = Hearing(0x0110), Hearing()
    with asking(ward, first) as association:
        assert ask(association, "1.2.35", HELD) == 0x0000
        assert first.came.wait(LONG_S)
    with asking(ward, again) as association:
        assert ask(association, "1.2.35", HELD) == 0x0000
        assert association.send_c_echo().Status == 0x0000
    assert not again.came.is_set()


def test_where_the_database_is_away_meanwhile_the_association_lives_and_the_reporter_tells(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Report:
        raise StorageBusy("The database stayed locked by another process")

    monkeypatch.setattr(Judge, "report", away)
    hearing = Hearing()
    with asking(ward, hearing) as association:
        assert ask(association, "1.2.36", HELD) == 0x0000
        until(lambda: ward.state("1.2.36")[1] <= 5)
        assert association.send_c_echo().Status == 0x0000
    assert not hearing.came.is_set()
    assert ward.state("1.2.36")[0] == AskState.WAITING
