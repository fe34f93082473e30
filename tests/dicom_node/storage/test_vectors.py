"""The index of embeddings: what is committed is whole, what is not is gone, and two models never mix."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.storage.vectors import IndexedPicture, IndexModel, PictureFilter, VectorIndex

MODEL = IndexModel("tiny", "ab" * 32, 4)
FIRST = IndexedPicture("1.2.3", 1, "1.2", "1.2.1", "DX", "CHEST", "PA", "20200131", "a.dcm")
PICTURES = (
    FIRST,
    replace(FIRST, sop_instance_uid="1.2.4", modality="CR", body_part="", study_date=""),
    replace(FIRST, sop_instance_uid="1.2.5", modality="CT", study_date="20210101", frame_number=7),
)
VECTORS = np.eye(3, 4, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with VectorIndex.held(tmp_path / "index", MODEL) as index:
        index.add(PICTURES, VECTORS)
    return tmp_path / "index"


def test_reads_back_what_was_added(folder: Path) -> None:
    index = VectorIndex.open(folder)
    assert len(index) == 3
    assert index.matrix().dtype == np.float16
    np.testing.assert_array_equal(index.matrix(), VECTORS)
    assert tuple(index.picture(row) for row in range(3)) == PICTURES
    assert index.holds("1.2.5", 7)
    assert not index.holds("1.2.5", 1)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (PictureFilter(), None),
        (PictureFilter(modalities=("DX", "CR")), [0, 1]),
        (PictureFilter(body_parts=("CHEST",)), [0, 2]),
        (PictureFilter(since="20200201"), [2]),
        (PictureFilter(until="20200131"), [0]),  # a picture without a date is not "before" anything
        (PictureFilter(modalities=("CT",), until="20200131"), []),
        (PictureFilter(modalities=("'; DROP TABLE pictures; --",)), []),
    ],
    ids=["all", "two modalities", "body part", "since", "until", "nothing left", "hostile"],
)
def test_filter(folder: Path, wanted: PictureFilter, rows: list[int] | None) -> None:
    found = VectorIndex.open(folder).rows(wanted)
    assert (None if found is None else found.tolist()) == rows


def test_vectors_without_committed_rows_are_cut_off(folder: Path) -> None:
    with (folder / "vectors.f16").open("ab") as file:
        file.write(b"\x00" * 11)  # a killed run: a vector and a half
    assert VectorIndex.open(folder).matrix().shape == (3, 4)
    more = replace(FIRST, sop_instance_uid="1.2.6")
    with VectorIndex.held(folder, MODEL) as index:
        index.add([more], np.full((1, 4), 0.5, np.float32))
    index = VectorIndex.open(folder)
    assert index.picture(3) == more
    np.testing.assert_array_equal(index.matrix()[3], [0.5] * 4)


def test_rows_without_vectors_are_told(folder: Path) -> None:
    os.truncate(folder / "vectors.f16", 8)
    with pytest.raises(StorageError, match="shorter than its 3 rows"):
        VectorIndex.open(folder)


@pytest.mark.parametrize("model", [replace(MODEL, digest="cd" * 32), replace(MODEL, width=8)], ids=["digest", "width"])
def test_another_model_is_refused(folder: Path, model: IndexModel) -> None:
    with pytest.raises(StorageError, match="two models cannot be compared"), VectorIndex.held(folder, model):
        pass


def test_one_writer_at_a_time(folder: Path) -> None:
    with (
        VectorIndex.held(folder, MODEL),
        pytest.raises(StorageBusy, match="another process"),
        VectorIndex.held(folder, MODEL),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": 1}', '{"form": 9, "name": "x", "digest": "y", "width": 1}'])
def test_damaged_description(folder: Path, text: str) -> None:
    (folder / "index.json").write_text(text)
    with pytest.raises(StorageError, match=r"index\.json"):
        VectorIndex.open(folder)


def test_no_index_and_a_folder_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="wetread embed"):
        VectorIndex.open(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StorageError, match="holds other files"), VectorIndex.held(tmp_path, MODEL):
        pass


@pytest.mark.parametrize("vectors", [np.eye(2, 4), np.eye(3, 5), np.full((3, 4), np.nan)], ids=["rows", "width", "nan"])
def test_vectors_that_do_not_fit(tmp_path: Path, vectors: np.ndarray) -> None:
    with VectorIndex.held(tmp_path / "new", MODEL) as index, pytest.raises(ValueError, match="vectors for 3 pictures"):
        index.add(PICTURES, vectors.astype(np.float32))
