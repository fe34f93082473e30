"""Backups: of one moment, only what is new, whole or not there; and restored, the work goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from dicom_node.backup import layout, restore, save
from dicom_node.errors import SettingsError, StorageError
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, instances_of, record_instance
from dicom_node.storage.jobs import JobKind, JobState, NewJob, claim, complete, enqueue, list_jobs, retry_later
from dicom_node.storage.nodes import NodeRow, heartbeat, list_nodes
from dicom_node.storage.results import NewDocument, documents_of, save_document
from dicom_node.storage.studies import get_study

NOW = 1000.0


@dataclass(frozen=True, slots=True)
class Place:
    """One installation: its settings file, its database and its files."""

    config: Path
    db: Database
    files: FileStore

    def receive(self, number: int) -> Path:
        """One more image of study 1.2; its file."""
        spool = self.files.spool(b"head")
        spool.write(b"pixels %d" % number)
        kept = spool.keep("1.2", f"1.2.3.{number}")
        new = NewInstance(
            f"1.2.3.{number}", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", "1.2", "1.2.840.10008.1.2.1", kept.path, kept.size,
            kept.sha256, "p" * 64, modality="DX",
        )  # fmt: skip
        with self.db.write() as conn:
            record_instance(conn, new, NOW)
        return self.files.path(kept.path)

    def write(self, uid: str) -> None:
        """A document and its delivery."""
        stored = self.files.write_document(uid, uid.encode())
        document = NewDocument(
            uid, "findings-sr", stored.path, "1.2", 1, "chest", "application/dicom", stored.size, stored.sha256
        )
        with self.db.write() as conn:
            save_document(conn, document, NOW)
            enqueue(conn, NewJob(JobKind.DELIVER, "pacs", f"deliver:{uid}:pacs", "1.2", {"document": uid}), NOW)

    def jobs(self) -> dict[str, JobState]:
        return {job.idempotency_key: job.state for job in list_jobs(self.db)}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    opened = []

    def make(name: str) -> Place:
        folder = tmp_path / name
        folder.mkdir()
        config = folder / "node.yaml"
        config.write_text(yaml.safe_dump({"data": "data"}), "utf-8")
        settings = load_settings(config)
        found = Place(config, Database.open(settings.database_url), FileStore(settings.data_folder))
        opened.append(found)
        return found

    yield make
    for one in opened:
        one.db.close()


@pytest.fixture
def source(place: Callable[[str], Place]) -> Place:
    """A node in the middle of its work."""
    found = place("source")
    (found.files.root / "device.uid").write_text("2.25.77\n")
    for number in range(3):
        found.receive(number)
    with found.db.write() as conn:
        enqueue(conn, NewJob(JobKind.READ, "read", "read:1.2:1:chest", "1.2", {"reading": "chest"}), NOW)
        heartbeat(conn, NodeRow("a~b~c:1:2", "a", "work", "0", NOW, NOW, "ready"))
    for uid in ("2.25.1", "2.25.2", "2.25.3"):
        found.write(uid)
    assert claim(found.db, JobKind.READ, None, "gone", 1, 60.0, NOW)
    delivered, failed = claim(found.db, JobKind.DELIVER, "pacs", "gone", 2, 60.0, NOW)
    with found.db.write() as conn:
        complete(conn, delivered, "gone", NOW)
    retry_later(found.db, failed, "gone", "refused", NOW + 9e9, NOW)
    return found


def _restored(config: Path, out: Path) -> Place:
    assert restore.run(config, out, None, False) == 0
    settings = load_settings(config)
    return Place(config, Database.open(settings.database_url), FileStore(settings.data_folder))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The settings of a machine on which nothing was ever started."""
    (tmp_path / "target").mkdir()
    config = tmp_path / "target" / "node.yaml"
    config.write_text("data: data\n", "utf-8")
    return config


def test_restored_on_an_empty_machine_the_work_goes_on(source: Place, empty: Path, tmp_path: Path) -> None:
    out = tmp_path / "backups"
    assert save.run(source.config, out, None) == 0
    with closing(_restored(empty, out).db) as db:
        place = Place(empty, db, FileStore(load_settings(empty).data_folder))
        assert place.jobs() == {
            "read:1.2:1:chest": JobState.QUEUED,  # was leased
            "deliver:2.25.1:pacs": JobState.DONE,  # and is not sent again
            "deliver:2.25.2:pacs": JobState.QUEUED,
            "deliver:2.25.3:pacs": JobState.QUEUED,
        }
        assert len(claim(db, JobKind.READ, None, "new", 9, 60.0, NOW)) == 1
        due = claim(db, JobKind.DELIVER, "pacs", "new", 9, 60.0, NOW)
        assert [job.first_error_at for job in due] == [None, None]
        with db.read() as conn, source.db.read() as there:
            assert get_study(conn, "1.2") == get_study(there, "1.2")
            assert instances_of(conn, "1.2") == instances_of(there, "1.2")
            assert documents_of(conn, "1.2") == documents_of(there, "1.2")
            assert list_nodes(conn) == ()
            for row in (*instances_of(conn, "1.2"), *documents_of(conn, "1.2")):
                assert place.files.path(row.path).read_bytes() == source.files.path(row.path).read_bytes()
        assert (place.files.root / "device.uid").read_text() == (source.files.root / "device.uid").read_text()
        with db.write() as conn:  # numbers go on after the highest
            assert enqueue(conn, NewJob(JobKind.READ, "read", "new", "1.9", {}), NOW)


def test_a_second_backup_copies_what_is_new_and_old_ones_are_deleted(source: Place, tmp_path: Path) -> None:
    out = tmp_path / "backups"
    save.run(source.config, out, None)
    copied = {path: path.stat().st_mtime_ns for path in (out / "files").rglob("*") if path.is_file()}
    source.receive(9)
    save.run(source.config, out, None)
    now = {path: path.stat().st_mtime_ns for path in (out / "files").rglob("*") if path.is_file()}
    assert len(now) == len(copied) + 1
    assert copied.items() <= now.items()
    stray = out / "files" / "instances" / "stray.dcm"
    stray.write_bytes(b"")
    assert save.prune(out, 1) == 1
    assert len(layout.backups_in(out)) == 1
    assert not stray.exists()
    assert restore.run(source.config, out, None, True) == 0


def test_what_a_killed_backup_left_is_no_backup_and_is_cleared_away(source: Place, tmp_path: Path) -> None:
    out = tmp_path / "backups"
    left = out / "backups" / ".2026-01-01T00-00-00.000000Z.part"
    left.mkdir(parents=True)
    (left / "backup.json").write_text("{}")
    assert layout.backups_in(out) == []
    save.run(source.config, out, None)
    assert not left.exists()
    assert len(layout.backups_in(out)) == 1


def test_a_damaged_backup_that_is_kept_costs_no_older_one(source: Place, tmp_path: Path) -> None:
    out = tmp_path / "backups"
    for _ in range(2):
        save.run(source.config, out, None)
    whole, damaged = layout.backups_in(out)
    (damaged / "files.jsonl.gz").write_bytes(b"x")
    with pytest.raises(StorageError, match="is damaged"):
        save.prune(out, 1)
    assert layout.backups_in(out) == [whole, damaged]


def test_everything_is_on_the_disk_before_a_backup_is_seen(
    source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "backups"
    seen: list[list[Path]] = []

    def sync() -> None:
        assert all((part / "backup.json").exists() for part in (out / "backups").iterdir())
        seen.append(layout.backups_in(out))

    monkeypatch.setattr("os.sync", sync)
    save.run(source.config, out, None)
    assert seen == [[]]


def test_a_file_that_retention_deletes_meanwhile_is_left_out(
    source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = source.receive(9)
    save_tables = save.save_tables

    def then_delete(db: Database, folder: Path, paths: Path) -> dict[str, int]:
        found = save_tables(db, folder, paths)
        gone.unlink()
        with db.write() as conn:
            conn.exec_driver_sql("DELETE FROM instances WHERE sop_uid='1.2.3.9'")
        return found

    monkeypatch.setattr(save, "save_tables", then_delete)
    _, facts = save.back_up(source.db, source.files, tmp_path / "backups")
    assert facts.files == 7
    assert facts.rows["instances"] == 4


def test_a_file_that_is_missing_is_told_and_leaves_no_backup(source: Place, tmp_path: Path) -> None:
    source.receive(9).unlink()
    with pytest.raises(StorageError, match="is missing, and a row names it"):
        save.back_up(source.db, source.files, tmp_path / "backups")
    assert layout.backups_in(tmp_path / "backups") == []


def _cut(out: Path) -> None:
    victim = next(path for path in (out / "files" / "instances").rglob("*.dcm"))
    victim.write_bytes(victim.read_bytes()[:-1])


def _changed(out: Path) -> None:
    victim = next(path for path in (out / "files" / "documents").rglob("*.dcm"))
    victim.write_bytes(b"x" * victim.stat().st_size)


def _missing(out: Path) -> None:
    next(path for path in (out / "files" / "instances").rglob("*.dcm")).unlink()


def _no_list(out: Path) -> None:
    (layout.backups_in(out)[0] / "files.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")


def _leads_out(out: Path) -> None:
    backup = layout.backups_in(out)[0]
    list(layout.write_entries(backup, iter([layout.Entry("../../x", 1, "0" * 64)])))


def _half_a_table(out: Path) -> None:
    file = layout.backups_in(out)[0] / "tables" / "instances.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-12])


def _later_form(out: Path) -> None:
    backup = layout.backups_in(out)[0]
    layout.write_facts(backup, replace(layout.read_facts(backup), form=2))


def _later_version(out: Path) -> None:
    backup = layout.backups_in(out)[0]
    layout.write_facts(backup, replace(layout.read_facts(backup), revision="9999"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_cut, "is not what was backed up", id="a file cut short"),
        pytest.param(_changed, "is not what was backed up", id="other bytes"),
        pytest.param(_missing, "the backup lacks", id="a file missing"),
        pytest.param(_no_list, "is damaged", id="no list of files"),
        pytest.param(_leads_out, "is damaged", id="a path that leads elsewhere"),
        pytest.param(_half_a_table, "is damaged", id="half a table"),
        pytest.param(_later_form, "install the newer one", id="a later form"),
        pytest.param(_later_version, "install the newer one", id="tables of a later version"),
    ],
)
def test_a_damaged_backup_is_refused_and_restores_no_study(
    source: Place, empty: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    out = tmp_path / "backups"
    save.run(source.config, out, None)
    spoil(out)
    with pytest.raises(StorageError, match=message):
        restore.run(empty, out, None, False)
    database = load_settings(empty).database_url
    if Path(database.removeprefix("sqlite:///")).exists() and "tables of a later" not in message:
        with closing(Database.open(database)) as db:
            assert list_jobs(db) == ()


def test_check_finds_what_is_damaged(source: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "backups"
    save.run(source.config, out, None)
    _cut(out)
    _changed(out)
    assert restore.run(source.config, out, None, True) == 1
    assert "2 files missing or damaged" in capsys.readouterr().out


def test_nothing_is_restored_over_studies(source: Place, tmp_path: Path) -> None:
    save.run(source.config, tmp_path / "backups", None)
    with pytest.raises(SettingsError, match="holds studies already"):
        restore.run(source.config, tmp_path / "backups", None, False)


def test_a_restore_that_was_stopped_may_be_repeated(
    source: Place, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "backups"
    save.run(source.config, out, None)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "load_tables", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.run(empty, out, None, False)
    with closing(_restored(empty, out).db) as db:
        assert len(list_jobs(db)) == 4


@pytest.mark.parametrize(("name", "message"), [(None, "holds no backup"), ("x", "holds no backup")])
def test_a_folder_without_backups_is_told(empty: Path, tmp_path: Path, name: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        restore.run(empty, tmp_path, name, False)


def test_an_unknown_name_is_told_with_those_there_are(source: Place, tmp_path: Path) -> None:
    save.run(source.config, tmp_path / "backups", None)
    with pytest.raises(SettingsError, match=r"there is no backup 'x'.*there are: 20"):
        restore.run(source.config, tmp_path / "backups", "x", False)


def test_a_backup_inside_the_data_folder_is_refused(source: Place) -> None:
    with pytest.raises(SettingsError, match="inside the data folder"):
        save.run(source.config, source.files.root / "backups", None)


def test_the_facts_are_plain_json(source: Place, tmp_path: Path) -> None:
    name, facts = save.back_up(source.db, source.files, tmp_path / "backups")
    told = json.loads((tmp_path / "backups" / "backups" / name / "backup.json").read_text())
    assert told["files"] == facts.files == 7
    assert told["rows"]["jobs"] == 4
