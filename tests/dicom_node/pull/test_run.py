"""What `wetread pull` refuses before it asks anyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.pull import run
from dicom_node.pull.criteria import Criteria

_ARCHIVE = "{kind: dicom, host: 127.0.0.1, port: 1, ae_title: PACS, retrieve: move}"


@pytest.mark.parametrize("source", ["pacs", "study.archive"])
def test_an_archive_that_sends_to_the_listener_is_not_asked_to_fill_a_folder(tmp_path: Path, source: str) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"data: data\nstudy: {{archive: {_ARCHIVE}}}\npeers: {{pacs: {_ARCHIVE}}}\n")
    wish = run.Wish(source, Criteria(studies=("1.2.3",)), into=tmp_path / "folder")
    with pytest.raises(SettingsError, match="retrieve: get"):
        run.pull(wish, config, dry_run=False)
