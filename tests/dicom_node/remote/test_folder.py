"""A folder that documents are put into: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.folder import put


def test_a_file_is_put_whole_and_replaced_by_itself(tmp_path: Path) -> None:
    put(tmp_path / "new" / "deep", "a.dcm", b"one")
    put(tmp_path / "new" / "deep", "a.dcm", b"one")
    assert [p.name for p in (tmp_path / "new" / "deep").iterdir()] == ["a.dcm"]
    assert (tmp_path / "new" / "deep" / "a.dcm").read_bytes() == b"one"


def test_what_a_killed_process_left_of_the_same_file_is_removed(tmp_path: Path) -> None:
    for left in (".a.dcm.123.part", ".b.dcm.123.part"):
        (tmp_path / left).write_bytes(b"o")
    put(tmp_path, "a.dcm", b"one")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.dcm.123.part", "a.dcm"]


def test_a_folder_that_cannot_be_written_is_for_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PeerUnavailable, match="cannot be written"):
        put(tmp_path / "file", "a.dcm", b"one")


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").mkdir()  # the rename must fail
    with pytest.raises(PeerUnavailable):
        put(tmp_path, "a.dcm", b"one")
    assert [p.name for p in tmp_path.iterdir()] == ["a.dcm"]
