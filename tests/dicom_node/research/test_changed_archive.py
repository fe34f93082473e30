"""A run repeated over an archive that has changed, and over studies that fail: what is read again and what is told."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dicom_node.errors import SettingsError
from dicom_node.phantom_dicom import phantom_dx
from inference.errors import DeviceError
from inference.reading import Frame, Reading, Skipped
from tests.dicom_node.research.archive import go, lines, make_plan, rows
from tests.support import GreyReader, save


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    source = tmp_path / "source"
    for seed in (0, 1):
        save(phantom_dx(seed, [], size=96), source / f"{seed}.dcm")
    return source, tmp_path / "run"


def test_files_added_later_are_picked_up(small: tuple[Path, Path]) -> None:
    source, out = small
    go(make_plan(source, out))
    parts = {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    save(phantom_dx(2, [], size=96), source / "later" / "2.dcm")
    assert go(make_plan(source, out)) == 0
    assert len({row["study_instance_uid"] for row in rows(out)}) == 3
    assert all((out / "parts" / name).stat().st_mtime_ns == written for name, written in parts.items())


def test_an_image_added_to_a_study_makes_a_second_revision(small: tuple[Path, Path]) -> None:
    source, out = small
    go(make_plan(source, out))
    study = str(phantom_dx(0, [], size=96).StudyInstanceUID)
    save(phantom_dx(7, [], size=96, study_uid=study, instance_number=2), source / "second.dcm")
    assert go(make_plan(source, out)) == 0
    assert {row["revision"] for row in rows(out) if row["study_instance_uid"] == study} == {2}
    assert {row["revision"] for row in rows(out) if row["study_instance_uid"] != study} == {1}


def test_a_touched_file_with_the_same_bytes_is_not_read_again(small: tuple[Path, Path]) -> None:
    source, out = small
    go(make_plan(source, out))
    os.utime(source / "0.dcm", ns=(1, 1))
    assert go(make_plan(source, out)) == 0
    assert {row["revision"] for row in rows(out)} == {1}


def test_changed_bytes_of_the_same_size_are_read_again(small: tuple[Path, Path]) -> None:
    source, out = small
    go(make_plan(source, out))
    path = source / "0.dcm"
    content = bytearray(path.read_bytes())
    content[-2] ^= 0xFF
    path.write_bytes(content)
    assert go(make_plan(source, out)) == 0
    assert sorted({row["revision"] for row in rows(out)}) == [1, 2]


def test_a_study_that_left_the_source_leaves_the_table_and_is_counted(small: tuple[Path, Path]) -> None:
    source, out = small
    go(make_plan(source, out))
    (source / "0.dcm").unlink()
    assert go(make_plan(source, out)) == 0
    assert len(rows(out)) == 2
    assert json.loads((out / "manifest.json").read_text())["counts"]["gone"] == 1


class _FailsOnce(GreyReader):
    """The first study of the process fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error: Exception | None = error

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return super().read(frames, skipped)


FAILURES = {
    "our own error is quoted": (DeviceError("the device is out of memory"), "the device is out of memory"),
    "a foreign error is named by class and place": (KeyError("DOE^JANE"), "KeyError in test_changed_archive.py:"),
}


@pytest.mark.parametrize(("error", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_study_is_told_and_tried_again(small: tuple[Path, Path], error: Exception, reason: str) -> None:
    source, out = small
    plan = make_plan(source, out)
    assert go(replace(plan, load_reader=lambda: _FailsOnce(error))) == 1
    assert len(rows(out)) == 2
    told = [entry for entry in lines(out / "errors.jsonl") if entry["failed"]]
    assert len(told) == 1
    assert reason in told[0]["reason"]
    assert "DOE" not in (out / "errors.jsonl").read_text()
    assert go(plan) == 0
    assert len(rows(out)) == 4
    assert lines(out / "errors.jsonl") == []


def test_models_that_cannot_be_loaded_end_the_run(small: tuple[Path, Path]) -> None:
    source, out = small

    def broken() -> GreyReader:
        raise DeviceError("no device")

    with pytest.raises(DeviceError, match="no device"):
        go(replace(make_plan(source, out), load_reader=broken))
    assert not (out / "results.parquet").exists()


def test_a_folder_with_other_files_is_not_taken_for_a_run(small: tuple[Path, Path]) -> None:
    source, out = small
    out.mkdir()
    (out / "thesis.doc").write_text("mine")
    with pytest.raises(SettingsError, match="holds other files and no run"):
        go(make_plan(source, out))
    assert sorted(path.name for path in out.iterdir()) == ["thesis.doc"]


def test_a_run_folder_inside_the_source_is_not_searched(small: tuple[Path, Path]) -> None:
    source, _ = small
    for _ in range(2):
        assert go(make_plan(source, source / "run")) == 0
    assert json.loads((source / "run" / "manifest.json").read_text())["counts"]["files"] == 2


def test_an_archive_with_nothing_in_it_gives_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    assert go(make_plan(tmp_path / "source", tmp_path / "run")) == 0
    assert pq.read_table(tmp_path / "run" / "results.parquet").num_rows == 0


def test_every_odd_file_of_the_corpus_is_accounted_for(dicom_corpus: Path, tmp_path: Path) -> None:
    """Whatever lies in an archive, the run ends well, and each file is either read or told with a reason."""
    odd = dicom_corpus / "nonimage_or_odd"
    assert go(make_plan(odd, tmp_path / "run")) == 0
    read = {entry["path"] for entry in json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))["inputs"]}
    told = {entry["path"]: entry["reason"] for entry in lines(tmp_path / "run" / "errors.jsonl") if entry["path"]}
    assert read | set(told) == {path.relative_to(odd).as_posix() for path in odd.rglob("*") if path.is_file()}
    assert all(told.values())
