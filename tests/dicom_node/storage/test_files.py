"""Partial files are never seen, whole files are where they belong, UIDs cannot reach outside."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import StorageError, StorageFull
from dicom_node.storage import files as module
from dicom_node.storage.files import FileStore
from dicom_node.storage.owner import current_owner, owner_alive, owner_alive_here, place


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files")


def _all(store: FileStore) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def test_an_instance_is_seen_only_when_it_is_whole(store: FileStore) -> None:
    spool = store.spool(b"head")
    spool.write(b"data")
    spool.write(b"set")
    assert all(name.startswith("spool/") for name in _all(store))
    kept = spool.keep("1.2", "1.2.3")
    assert _all(store) == {kept.path}
    assert store.path(kept.path).read_bytes() == b"headdataset"
    assert (kept.size, kept.sha256) == (7, hashlib.sha256(b"dataset").hexdigest())


def test_the_same_bytes_take_the_same_place_and_others_another(store: FileStore) -> None:
    def keep(data: bytes) -> str:
        spool = store.spool(b"")
        spool.write(data)
        return spool.keep("1.2", "1.2.3").path

    assert keep(b"one") == keep(b"one") != keep(b"two")
    assert len(_all(store)) == 2


def test_a_discarded_file_leaves_nothing(store: FileStore) -> None:
    spool = store.spool(b"head")
    spool.discard()
    spool.discard()
    assert _all(store) == set()


@settings(max_examples=50, deadline=None)
@given(uid=st.text(max_size=80))
def test_no_uid_reaches_outside_its_folder(tmp_path_factory: pytest.TempPathFactory, uid: str) -> None:
    store = FileStore(tmp_path_factory.mktemp("files"))
    spool = store.spool(b"")
    spool.write(b"x")
    names = [spool.keep(uid, uid).path, store.write_document(uid, b"x").path]
    assert all(set(name) <= set("0123456789abcdef/-.dcm instancesdocuments") and ".." not in name for name in names)


@pytest.mark.parametrize("relative", ["/etc/passwd", "../x", "instances/../../x"])
def test_a_stored_path_outside_the_root_is_refused(store: FileStore, relative: str) -> None:
    with pytest.raises(StorageError, match="outside"):
        store.path(relative)


def test_a_document_is_never_overwritten_by_other_bytes(store: FileStore) -> None:
    first = store.write_document("2.25.1", b"one", ".json")
    second = store.write_document("2.25.1", b"two!", ".json")
    assert store.write_document("2.25.1", b"one", ".json") == first
    assert store.path(first.path).read_bytes() == b"one"
    assert store.path(second.path).read_bytes() == b"two!"
    assert _all(store) == {first.path, second.path}


@pytest.mark.parametrize(("free", "refused"), [(99, True), (100, False), (101, False)])
def test_the_watermark(tmp_path: Path, free: int, refused: bool) -> None:
    store = FileStore(tmp_path, free_bytes=lambda _: free)
    if refused:
        with pytest.raises(StorageFull):
            store.require_room(100)
    else:
        store.require_room(100)


def test_a_write_to_a_full_disk_is_storage_full(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = store.spool(b"head")

    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "write", write)
    with pytest.raises(StorageFull, match="no room"):
        spool.write(b"data")
    with pytest.raises(StorageFull, match="no room"):
        store.spool(b"head")
    monkeypatch.undo()
    spool.discard()
    assert _all(store) == set()


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="check that it exists"):
        FileStore(tmp_path / "file" / "root")


def _dead_process_leaves(store: FileStore) -> None:
    program = f"""
import os
from dicom_node.storage.files import FileStore
FileStore({str(store.root)!r}).spool(b"head").write(b"part")
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", program], check=False)


def test_only_partial_files_of_dead_processes_are_cleaned(store: FileStore) -> None:
    mine = store.spool(b"head")
    _dead_process_leaves(store)
    elsewhere = store.root / "spool" / "other-host_1_2_3.part"
    elsewhere.write_bytes(b"")
    ancient = store.root / "spool" / "other-host_1_2_4.part"
    ancient.write_bytes(b"")
    os.utime(ancient, (0, 0))
    assert len(_all(store)) == 4
    assert store.clean_spool() == 2
    assert _all(store) == {str(mine.path.relative_to(store.root)), str(elsewhere.relative_to(store.root))}
    mine.discard()


def test_a_clock_set_forward_makes_no_arriving_file_of_another_machine_old(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving = store.root / "spool" / "other-host_1_2_3.part"
    arriving.write_bytes(b"half an image")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86400)
    assert store.clean_spool() == 0
    assert arriving.exists()


def test_an_owner_lives_as_long_as_its_process() -> None:
    assert owner_alive(current_owner())
    assert owner_alive(current_owner("worker-1"))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    owner = f"{place()}:{child.pid}:{start}"
    assert owner_alive(owner)
    assert not owner_alive(f"{place()}:{child.pid}:{int(start) + 1}")
    child.kill()
    child.communicate()
    assert not owner_alive(owner)


_HOST, _NAMESPACE, _BOOT = place().split("~")


@pytest.mark.parametrize(
    ("owner", "anywhere", "here"),
    [
        pytest.param("elsewhere~11111111~22222222:1:2", True, True, id="another host"),
        pytest.param(f"{_HOST}~11111111~{_BOOT}:1:2", True, True, id="another container of the same name"),
        pytest.param(f"{_HOST}~{_NAMESPACE}~22222222:1:2", True, False, id="the same name and another boot"),
        pytest.param(f"{_HOST}~{_NAMESPACE}~{_BOOT}:1:2", False, False, id="here, and gone"),
        pytest.param(f"{_HOST}:1:2", True, True, id="of version 0.1.0"),
        pytest.param("", True, True, id="nobody"),
        pytest.param("nonsense", True, True, id="no owner at all"),
    ],
)
def test_of_processes_elsewhere_nothing_is_known(owner: str, anywhere: bool, here: bool) -> None:
    assert (owner_alive(owner), owner_alive_here(owner)) == (anywhere, here)


def test_an_owner_fits_its_column_and_a_file_name() -> None:
    longest = current_owner("deliver") + ":" + 64 * "x"
    assert len(longest) <= 160
    assert "/" not in current_owner()


def test_a_process_in_a_container_of_the_same_name_is_another_owner() -> None:
    """With a process-id namespace of its own: the same host name, the same numbers, and still somebody else."""
    program = "from dicom_node.storage.owner import current_owner; print(current_owner())"
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    made = subprocess.run(inside, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no namespaces here: {made.stderr.strip()}")
    there = made.stdout.strip()
    assert there.split("~")[0] == place().split("~")[0]
    assert there.split(":")[0] != place()
    assert owner_alive(there)
