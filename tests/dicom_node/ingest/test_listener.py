"""The port, over real sockets: what is stored, what is refused and with which status, who is rejected."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
)
from pynetdicom import _config as pynetdicom_config
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.errors import ListenError, StorageBusy, StorageError
from dicom_node.ingest import committer
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.ingest.receive import Receiver
from dicom_node.storage import files as module
from dicom_node.storage.events import EventKind, Severity
from dicom_node.storage.files import FileStore
from tests.support import peer_path

SC = "1.2.840.10008.5.1.4.1.1.7"
VERIFICATION = "1.2.840.10008.1.1"
PRIVATE = "1.3.12.2.1107.5.9.1"
JPEG_XL = "1.2.840.10008.1.2.4.110"
Start = Callable[..., Any]
Make = Callable[..., Dataset]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see gc.collect


def _dataset_bytes(path: Path) -> bytes:
    """A stored file without its head, found by pydicom."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def test_success_means_on_the_disk_and_in_the_database_byte_for_byte(
    start: Start, make: Make, encode: Callable[..., bytes]
) -> None:
    node, ds = start(), make(pixels=bytes(range(256)) * 2000)
    assert node.send(ds).Status == 0x0000
    (row,) = node.rows("1.2.3.4")
    sent, path = encode(ds), node.files.path(row.path)
    assert _dataset_bytes(path) == sent
    assert row.size == len(sent)
    assert (row.calling_ae, row.called_ae, row.host, row.modality, row.body_part) == (
        "SENDER",
        "WETREAD",
        "127.0.0.1",
        "OT",
        "CHEST",
    )
    meta = pydicom.dcmread(path).file_meta
    assert (meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (
        "1.2.3.4",
        ExplicitVRLittleEndian,
        "SENDER",
    )
    assert node.partials() == []
    assert node.events() == ()


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, HTJ2KLossless, JPEG_XL]
)
def test_every_transfer_syntax_is_accepted(start: Start, syntax: str) -> None:
    node = start()
    association = node.associate((SC, syntax))
    assert [context.transfer_syntax[0] for context in association.accepted_contexts] == [syntax]
    association.release()


def test_the_senders_first_transfer_syntax_is_taken(start: Start) -> None:
    node = start()
    association = node.associate((SC, [HTJ2KLossless, ExplicitVRLittleEndian]))
    assert association.accepted_contexts[0].transfer_syntax[0] == HTJ2KLossless
    association.release()


def test_a_private_sop_class_is_stored_where_the_settings_name_it(start: Start, make: Make) -> None:
    node = start(extra_sop_classes=(PRIVATE,))
    ds = make(SOPClassUID=PRIVATE)
    ds.file_meta.MediaStorageSOPClassUID = PRIVATE
    association = node.associate((PRIVATE, ExplicitVRLittleEndian), ("1.3.12.2.9", ExplicitVRLittleEndian))
    assert [context.abstract_syntax for context in association.rejected_contexts] == ["1.3.12.2.9"]
    assert association.send_c_store(ds).Status == 0x0000
    association.release()


def test_echo(start: Start) -> None:
    association = start().associate((VERIFICATION, ImplicitVRLittleEndian))
    for _ in range(3):
        while association._is_paused:  # pynetdicom's own thread is not back yet, and would take the quick answer for itself
            time.sleep(0.001)
        assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.filterwarnings("ignore:.* for VR UI")
@pytest.mark.parametrize(
    ("change", "status", "comment"),
    [
        pytest.param({"StudyInstanceUID": None}, 0xC002, "Study Instance UID (0020,000D) is missing or empty", id="no study"),
        pytest.param({"StudyInstanceUID": ""}, 0xC002, "Study Instance UID (0020,000D) is missing or empty", id="empty study"),
        pytest.param(
            {"SeriesInstanceUID": None}, 0xC002, "Series Instance UID (0020,000E) is missing or empty", id="no series"
        ),
        pytest.param({"StudyInstanceUID": "1.2.x"}, 0xC003, "Study Instance UID (0020,000D) is malformed", id="letters"),
        pytest.param({"StudyInstanceUID": "1.02.3"}, 0xC003, "Study Instance UID (0020,000D) is malformed", id="leading zero"),
        pytest.param(
            {"StudyInstanceUID": "1." + "2" * 70}, 0xC003, "Study Instance UID (0020,000D) is malformed", id="too long"
        ),
        pytest.param({"StudyInstanceUID": "../../etc"}, 0xC003, "Study Instance UID (0020,000D) is malformed", id="a path"),
    ],
)
def test_refusals_name_the_attribute_and_the_association_survives(
    start: Start, make: Make, change: dict[str, Any], status: int, comment: str
) -> None:
    node = start()
    association = node.associate()
    answer = association.send_c_store(make(**change))
    assert (answer.Status, answer.ErrorComment) == (status, comment)
    assert association.send_c_store(make("1.2.3.5")).Status == 0x0000
    association.release()
    (event,) = node.events()
    assert (event.kind, event.severity, event.sop_uid, event.calling_ae) == (
        EventKind.REFUSED_INSTANCE,
        Severity.WARNING,
        "1.2.3.4",
        "SENDER",
    )
    assert comment in event.text
    assert node.rows("1.2.3.4") == ()
    assert node.partials() == []


def _send_raw(node: Any, data: bytes, sop_class: str = SC, sop: str = "1.2.3.4") -> tuple[int, str]:
    """Send bytes as the data set of a C-STORE request; status and comment of the answer."""
    association = node.associate()
    request = C_STORE()
    request.MessageID, request.Priority, request.DataSet = 1, 2, BytesIO(data)
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, 1)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return response.Status, response.ErrorComment or ""


@pytest.mark.filterwarnings("ignore:.* for VR UI")
def test_what_does_not_match_or_cannot_be_parsed(start: Start, make: Make, encode: Callable[..., bytes]) -> None:
    node, data = start(), encode(make())
    assert _send_raw(node, data) == (0x0000, "")
    assert _send_raw(node, data, sop_class="1.2.840.10008.5.1.4.1.1.2") == (
        0xA900,
        "SOP Class UID differs between command and data set",
    )
    assert _send_raw(node, data, sop_class="1.2.3") == (0xA900, "SOP Class UID differs between command and data set")
    assert _send_raw(node, data, sop="1.2.3.5") == (0xA900, "SOP Instance UID differs between command and data set")
    assert _send_raw(node, b"\0" * 320) == (0xC002, "SOP Class UID (0008,0016) is missing or empty")
    assert _send_raw(node, data[:30])[0] == 0xC001
    assert len(node.events()) == 5
    assert node.partials() == []


def test_duplicates_and_conflicts_are_successes(start: Start, make: Make) -> None:
    node = start()
    assert [node.send(make()).Status for _ in range(2)] == [0, 0]
    assert len(node.rows("1.2.3.4")) == 1
    assert node.send(make(pixels=b"\4\3\2\1")).Status == 0
    first, second = node.rows("1.2.3.4")
    assert (first.set_aside, second.set_aside) == (False, True)
    assert node.files.path(first.path).read_bytes() != node.files.path(second.path).read_bytes()
    assert [event.kind for event in node.events()] == [EventKind.CONFLICT]


def test_below_the_watermark_objects_are_refused_until_there_is_room(start: Start, make: Make) -> None:
    room = [50]
    node = start(free_bytes=lambda _: room[0], watermark_bytes=100)
    association = node.associate()
    for _ in range(3):
        assert association.send_c_store(make(pixels=b"\0" * 500_000)).Status == 0xA700
    room[0] = 100
    assert association.send_c_store(make()).Status == 0x0000
    association.release()
    assert [event.severity for event in node.events()] == [Severity.ALERT]  # once a minute: the disk must not fill with these


def test_a_disk_that_fills_in_the_middle_refuses_and_leaves_nothing(
    start: Start, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start()
    real, written = os.write, [0]

    def write(descriptor: int, data: Any) -> int:
        written[0] += len(data)
        if written[0] > 300_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    def splice(source: int, sink: int, count: int) -> int:
        if stat.S_ISREG(os.fstat(sink).st_mode):
            written[0] += count
            if written[0] > 300_000:
                raise OSError(errno.ENOSPC, "No space left on device")
        return spliced(source, sink, count)

    spliced = os.splice
    monkeypatch.setattr(module.os, "write", write)
    monkeypatch.setattr(module.os, "splice", splice)
    assert node.send(make(pixels=b"\0" * 600_000)).Status == 0xA700
    monkeypatch.undo()
    assert node.partials() == []
    assert node.rows("1.2.3.4") == ()


def test_an_unexpected_failure_is_answered_recorded_and_survived(
    start: Start, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> Any:
        raise ZeroDivisionError("patient text")

    node = start()
    association = node.associate()
    monkeypatch.setattr(Receiver, "_header", breaks)
    assert association.send_c_store(make()).Status == 0x0110
    monkeypatch.undo()
    assert association.send_c_store(make()).Status == 0x0000
    association.release()
    (event,) = node.events()
    assert "ZeroDivisionError" in event.text
    assert "patient text" not in event.text


def test_a_locked_database_is_out_of_resources(start: Start, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start()

    def busy(*_: object) -> Any:
        raise StorageBusy("The database stayed locked by another process")

    monkeypatch.setattr(committer, "record_instances", busy)
    assert node.send(make()).Status == 0xA700
    assert node.rows("1.2.3.4") == ()
    monkeypatch.undo()
    assert node.send(make()).Status == 0x0000


@pytest.mark.parametrize(
    ("settings", "who", "expected"),
    [
        pytest.param({"allowed": ()}, {}, (1, 1, 3), id="empty list"),
        pytest.param({"allowed": (AllowedPeer("OTHER", ("127.0.0.1",)),)}, {}, (1, 1, 3), id="another AE"),
        pytest.param({"allowed": (AllowedPeer("SENDER", ("10.0.0.0/8",)),)}, {}, (1, 1, 3), id="another host"),
        pytest.param({}, {"called": "ELSEWHERE"}, (1, 1, 7), id="another called AE"),
    ],
)
def test_rejections_reach_the_peer_with_their_reason(
    start: Start, settings: dict[str, Any], who: dict[str, str], expected: tuple[int, int, int]
) -> None:
    node = start(**settings)
    for _ in range(2):
        association = node.associate(**who)
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == expected
    (event,) = node.events()
    assert (event.kind, event.calling_ae, event.host) == (EventKind.REJECTED_ASSOCIATION, "SENDER", "127.0.0.1")


def test_one_association_too_many_is_told_to_come_again(start: Start) -> None:
    node = start(max_associations=2)
    first, second, third = (node.associate() for _ in range(3))
    answer = third.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    first.release()
    _until(lambda: node.listener.associations == 1)
    fourth = node.associate()
    assert fourth.is_established
    for association in (second, fourth):
        association.release()


def test_connections_that_never_ask_take_no_place(start: Start) -> None:
    node = start(max_associations=1, acse_timeout_s=30.0)
    probes = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(5)]
    association = node.associate()
    assert association.is_established
    association.release()
    for probe in probes:
        probe.close()


def test_a_connection_cut_in_the_middle_leaves_nothing(start: Start, make: Make) -> None:
    node = start()
    association = node.associate()
    assert association.send_c_store(make("1.2.3.9")).Status == 0x0000
    sender = threading.Thread(target=lambda: association.send_c_store(make(pixels=b"\0" * 60_000_000)), daemon=True)
    sender.start()
    _until(lambda: bool(node.partials()))
    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    _until(lambda: not node.partials())
    sender.join(30)
    assert node.rows("1.2.3.4") == ()
    assert len(node.rows("1.2.3.9")) == 1
    assert node.send(make()).Status == 0x0000


def test_a_command_set_of_garbage_ends_only_its_association(start: Start, make: Make) -> None:
    node = start()
    association = node.associate()
    garbage = P_DATA()
    garbage.presentation_data_value_list.append((1, b"\x03" + b"\xff" * 40))
    association.dul.send_pdu(garbage)
    _until(lambda: node.listener.associations == 0)
    assert node.send(make()).Status == 0x0000


def test_a_port_that_is_taken_is_named(start: Start) -> None:
    node = start()
    with pytest.raises(ListenError, match=f"port {node.port} of 127.0.0.1: another program uses it"):
        start(port=node.port)


def test_stopping_lets_the_object_under_way_finish(start: Start, make: Make) -> None:
    node = start()
    statuses: list[int] = []

    def send() -> None:
        association = node.associate()
        statuses.append(association.send_c_store(make(pixels=b"\0" * 5_000_000)).Status)
        association.release()

    sender = threading.Thread(target=send)
    sender.start()
    _until(lambda: bool(node.partials()) or bool(statuses))
    node.listener.stop(grace_s=20.0)
    sender.join(20)
    assert statuses == [0x0000]
    assert len(node.rows("1.2.3.4")) == 1


def test_stopping_aborts_those_that_stay(start: Start) -> None:
    node = start()
    association = node.associate()
    node.listener.stop(grace_s=0.2)
    _until(lambda: not association.is_established)
    assert association.is_aborted


def test_many_senders_at_once(start: Start, make: Make) -> None:
    node = start()
    statuses: list[int] = []

    def send(number: int) -> None:
        association = node.associate()
        for image in range(3):
            statuses.append(association.send_c_store(make(f"1.2.{number + 1}.{image}", f"1.{number + 1}")).Status)
        association.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [0x0000] * 36
    assert all(len(node.rows(f"1.2.{number + 1}.{image}")) == 1 for number in range(12) for image in range(3))


@pytest.mark.skipif(not shutil.which("dcmsend", path=peer_path()), reason="DCMTK's dcmsend is not installed")
def test_dcmtk_sends_and_is_rejected_by_name(start: Start, make: Make, send_file: Callable[[Dataset], Path]) -> None:
    node = start()
    file = send_file(make())
    for program in ("echoscu", "storescu", "dcmsend"):
        ending = [] if program == "echoscu" else [str(file)]
        subprocess.run([_dcmtk(program), "-aec", "WETREAD", "127.0.0.1", str(node.port), *ending], check=True, timeout=60)
    assert len(node.rows("1.2.3.4")) == 1
    refused = subprocess.run(
        [_dcmtk("echoscu"), "-aec", "NOBODY", "127.0.0.1", str(node.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stderr + refused.stdout


def test_pynetdicoms_own_settings_are_left_alone(start: Start) -> None:
    start()
    assert not pynetdicom_config.STORE_RECV_CHUNKED_DATASET
    assert not pynetdicom_config.UNRESTRICTED_STORAGE_SERVICE


def test_a_store_that_cannot_write_answers_failure(start: Start, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start()

    def broken(*_: object) -> Any:
        raise StorageError("the spool cannot be used; check that it exists and is writable")

    monkeypatch.setattr(FileStore, "arriving", broken)
    answer = node.send(make())
    assert (answer.Status, answer.ErrorComment) == (0x0110, "Storage failed; the operator has been told")


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def _dcmtk(program: str) -> str:
    found = shutil.which(program, path=peer_path())
    assert found, f"{program} is not installed though dcmsend is"
    return found
