"""Object stores by fsspec: memory and local files are file systems of fsspec itself."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.bucket import Bucket, put, reach


def test_an_object_is_written_and_written_again_as_one() -> None:
    bucket = Bucket("memory://results/ward-3")
    for content in (b"first", b"second"):
        put(bucket, "findings-sr-1.2.dcm", content)
    system = fsspec.filesystem("memory")
    assert system.ls("/results/ward-3", detail=False) == ["/results/ward-3/findings-sr-1.2.dcm"]
    assert system.cat("/results/ward-3/findings-sr-1.2.dcm") == b"second"
    reach(bucket)


def test_a_disk_is_written_durably_as_a_folder_is(tmp_path: Path) -> None:
    put(Bucket(f"file://{tmp_path}/out"), "a.dcm", b"one")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [("a.dcm", b"one")]


FAULTS = {
    "no such kind": ("nosuch://bucket", None, "ValueError"),
    "options that are no JSON": ("memory://x", "{", "options file .* cannot be read"),
    "options that are a list": ("memory://x", "[]", "must hold a JSON object"),
    "a folder below a file": ("file:///dev/null/x", None, "cannot be written"),
}


@pytest.mark.parametrize(("url", "options", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_written_is_for_later(tmp_path: Path, url: str, options: str | None, said: str) -> None:
    file = None
    if options is not None:
        file = tmp_path / "options.json"
        file.write_text(options)
    with pytest.raises(PeerUnavailable, match=said):
        put(Bucket(url, file), "a.dcm", b"one")


def test_a_missing_package_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(PeerUnavailable, match="is not installed"):
        put(Bucket("s3://bucket/prefix"), "a.dcm", b"one")


def test_a_secret_of_the_options_is_never_told(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(json.dumps({"skip_instance_cache": True, "no_such_option": "s3cret"}))
    with pytest.raises(PeerUnavailable) as caught:
        put(Bucket("github://x", tmp_path / "options.json"), "a.dcm", b"one")
    assert "s3cret" not in str(caught.value)
