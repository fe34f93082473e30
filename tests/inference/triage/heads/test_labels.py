"""The table of labels: what it says, and each mistake told by line and column, never with a patient's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import LabelsError
from inference.triage.heads.labels import Labels, read_labels
from inference.triage.heads.names import Names, read_names

KEYS = ("pneumothorax", "pleural_effusion", "nodule")


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path: Path, text: str | bytes, **options: object) -> Labels:
    return read_labels(table(tmp_path, text), KEYS, **options)  # type: ignore[arg-type]


def test_a_table_is_read(tmp_path: Path) -> None:
    text = "﻿file,patient,age,pneumothorax,nodule,collection\r\na.png,P1,50,1,,here\r\n\r\nb/c.png,P2,,0.0,1.0,\r\n"
    labels = read(tmp_path, text.encode())
    assert [row.truth for row in labels.rows] == [(1, -1, -1), (0, -1, 1)]
    assert [(row.line, row.image, row.patient, row.collection) for row in labels.rows] == [
        (2, "a.png", "P1", "here"),
        (4, "b/c.png", "P2", ""),
    ]
    assert labels.unused == ("age",)
    assert not labels.by_uid


def test_uids_and_another_patient_column(tmp_path: Path) -> None:
    labels = read(tmp_path, "sop_instance_uid,mrn,nodule\n1.2.3,7,1\n", patient="mrn")
    assert labels.by_uid
    assert labels.rows[0].image == "1.2.3"


HEAD = "file,patient,pneumothorax\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "line 1: no column 'file' or 'sop_instance_uid'", id="empty"),
        pytest.param(HEAD, "holds no row", id="no row"),
        pytest.param("file,pneumothorax\na,1\n", "no column 'patient'.*--patient-column", id="no patient column"),
        pytest.param("file,patient,age\na,P,1\n", "no column is a finding.*there are: pneumothorax", id="no finding"),
        pytest.param("file,patient,labels\na,P,x\n", "To read the column 'labels', give --names", id="names wanted"),
        pytest.param("file,patient,pneumothorx\na,P,1\n", "'pneumothorx' is no finding.*mean 'pneumothorax'", id="slip"),
        pytest.param("file,patient,Pleural Effusion\na,P,1\n", "mean 'pleural_effusion'", id="spelled for people"),
        pytest.param("file,file,patient,nodule\na,a,P,1\n", "column 'file' is there twice", id="column twice"),
        pytest.param(HEAD + "a,Smith,1\nb,Smith,yes\n", "line 3, column 'pneumothorax': 'yes' is neither 1", id="yes"),
        pytest.param(HEAD + "a,Smith,-1\n", "line 2, column 'pneumothorax': '-1' is neither", id="uncertain"),
        pytest.param(HEAD + "a,Smith,2\n", "line 2, column 'pneumothorax'", id="two"),
        pytest.param(HEAD + "a,,1\n", "line 2, column 'patient': is empty", id="no patient"),
        pytest.param(HEAD + ",Smith,1\n", "line 2, column 'file': is empty", id="no file"),
        pytest.param(HEAD + "a,Smith,1\nb,Smith,1\na,Smith,1\n", "line 4: the same image as line 2", id="row twice"),
        pytest.param(HEAD + "a,Smith\n", "line 2: 2 cells for 3 columns", id="cell missing"),
        pytest.param(HEAD + 'a,"Smith,1\n', "cannot be read as CSV", id="quote open"),
        pytest.param(HEAD.encode() + b"a,M\xfcller,1\n", "cannot be read as CSV in UTF-8", id="Latin-1"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(LabelsError, match=says) as caught:
        read(tmp_path, text)
    assert "labels.csv" in str(caught.value)
    assert "Smith" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", KEYS)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "labels.csv"
    path.write_bytes(b"file,patient,nodule\n" + data)
    try:
        labels = read_labels(path, KEYS)
    except LabelsError:
        return
    assert all(value in (-1, 0, 1) for row in labels.rows for value in row.truth)


NAMES = """
names:
  Pneumothorax: pneumothorax
  Mass or nodule: [nodule]
  No Finding: none
  Rotated: unknown
unmentioned: {clinic: absent}
"""


@pytest.fixture
def names(tmp_path: Path) -> Names:
    path = tmp_path / "names.yaml"
    path.write_text(NAMES, "utf-8")
    return read_names(path, KEYS)


@pytest.mark.parametrize(
    ("labels", "collection", "truth"),
    [
        pytest.param("Pneumothorax", "clinic", (1, -1, 0), id="others absent; what no name means stays unknown"),
        pytest.param("Pneumothorax", "elsewhere", (1, -1, -1), id="others unknown"),
        pytest.param("Pneumothorax|Mass or nodule", "elsewhere", (1, -1, 1), id="two"),
        pytest.param("No Finding", "elsewhere", (0, -1, 0), id="none"),
        pytest.param("Rotated", "elsewhere", (-1, -1, -1), id="says nothing"),
        pytest.param("", "clinic", (-1, -1, -1), id="nothing said"),
    ],
)
def test_names_mean_findings(tmp_path: Path, names: Names, labels: str, collection: str, truth: tuple[int, ...]) -> None:
    found = read(tmp_path, f"file,patient,labels,collection\na,P,{labels},{collection}\n", names=names)
    assert found.rows[0].truth == truth


def test_a_column_of_its_own_outweighs_names(tmp_path: Path, names: Names) -> None:
    found = read(tmp_path, "file,patient,labels,nodule\na,P,No Finding,1\nb,P,No Finding,\n", names=names)
    assert [row.truth for row in found.rows] == [(0, -1, 1), (0, -1, 0)]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        pytest.param("Fracture", "line 2, column 'labels': .*does not say what 'Fracture' means", id="unknown name"),
        pytest.param("No Finding|Pneumothorax", "'No Finding' stands beside the name of a finding", id="contradiction"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, names: Names, labels: str, says: str) -> None:
    with pytest.raises(LabelsError, match=says):
        read(tmp_path, f"file,patient,labels\na,P,{labels}\n", names=names)


def test_names_need_their_column(tmp_path: Path, names: Names) -> None:
    with pytest.raises(LabelsError, match="no column 'labels'"):
        read(tmp_path, HEAD + "a,P,1\n", names=names)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "names: {Mass: lung_mas}", "'Mass': 'lung_mas' is no finding of the catalogue; allowed: pneumothorax", id="key"
        ),
        pytest.param("names: {Mass: [nodule, 3]}", "3 is no finding", id="number"),
        pytest.param("names: [Mass]", "must hold `names:`", id="list"),
        pytest.param("names: {}\nextra: 1", "nothing else", id="extra"),
        pytest.param("names: {}\nunmentioned: maybe", "allowed are absent and unknown", id="unmentioned"),
        pytest.param("names: {", "cannot be read as YAML", id="no YAML"),
    ],
)
def test_a_names_file_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(LabelsError, match=says):
        read_names(path, KEYS)
