"""Cache files: whole or absent, and never believed when a single byte differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.cache_files import read_checked, write_checked


@given(content=st.binary(max_size=200))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("cache") / "new" / "file"
    assert write_checked(path, content)
    assert read_checked(path) == content
    assert [one.name for one in path.parent.iterdir()] == ["file"]  # nothing is left beside it


@given(content=st.binary(min_size=1, max_size=50), place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_one_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int, change: int) -> None:
    path = tmp_path_factory.mktemp("cache") / "file"
    write_checked(path, content)
    written = bytearray(path.read_bytes())
    written[place % len(written)] ^= change
    path.write_bytes(written)
    assert read_checked(path) is None


@pytest.mark.parametrize("written", [b"", b"\n", b"no digest", b"a" * 64 + b"\ncontent"])
def test_a_file_of_another_form_is_nothing(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(written)
    assert read_checked(path) is None
    assert read_checked(tmp_path / "absent") is None


def test_a_disk_that_does_not_let_us_write_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    assert not write_checked(tmp_path / "file" / "below", b"content")
    (tmp_path / "folder").mkdir()
    assert not write_checked(tmp_path / "folder", b"content")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]
