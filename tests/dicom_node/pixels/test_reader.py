"""Options that change the pictures change the names of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.flow import ReadRequest, read_study
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.pixels import PixelOptions, PixelReader
from dicom_node.pixels.rules import DEFAULT_RULES
from reporting.options import DocumentOptions
from tests.support import GreyReader, save

FEWER = replace(DEFAULT_RULES, most_frames=DEFAULT_RULES.most_frames - 1)


def test_each_choice_has_its_own_identity_and_the_shipped_one_has_none() -> None:
    assert PixelOptions().identity == ""
    others = {
        one.identity for one in (PixelOptions(fast=True), PixelOptions(rules=FEWER), PixelOptions(rules=FEWER, fast=True))
    }
    assert len(others) == 3
    assert "" not in others
    assert PixelOptions(fast=True).identity == PixelOptions(fast=True).identity


def test_documents_of_other_pictures_are_other_documents(tmp_path: Path) -> None:
    save(phantom_dx(3, [], size=64), tmp_path / "film.dcm")
    request = ReadRequest("1.2.3", (tmp_path / "film.dcm",), 1, datetime(2026, 3, 4, tzinfo=UTC), "2.25.1")

    def uids(options: PixelOptions) -> set[str]:
        with PixelReader(options) as pixels:
            return {one.uid for one in read_study(GreyReader(), request, DocumentOptions("1"), pixels).documents}

    assert uids(PixelOptions()) == uids(PixelOptions())
    assert uids(PixelOptions()).isdisjoint(uids(PixelOptions(fast=True)))
