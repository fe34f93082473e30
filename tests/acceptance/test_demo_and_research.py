"""The two commands that need no node of one's own: `wetread demo`, and `wetread research run` over an archive."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from .harness import films, sr
from .harness.node import environment, wetread
from .harness.processes import Running, wait_for

DEMO_LIMIT_S = 60  # the issue's own figure, once everything is set up
SLOW = 3  # times longer on a machine that does other things at the same time
STUDIES = 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that ended well and in time."""
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    started = time.monotonic()
    done = wetread("demo", "--out", out, timeout=DEMO_LIMIT_S * SLOW)
    took = time.monotonic() - started
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Traceback" not in said
    print(f"the demo took {took:.1f} s\n{said}")
    return out


def test_the_demo_leaves_reports_their_text_pages_fhir_and_pictures(demo: Path) -> None:
    suffixes = (".dcm", ".txt", ".json", ".png", ".pdf")
    kinds = {suffix: sorted(path.name for path in demo.glob(f"*{suffix}")) for suffix in suffixes}
    assert len(kinds[".dcm"]) == 10, kinds  # two reports and a page of each study, and the one heat map
    assert len(kinds[".pdf"]) == 3, kinds
    assert len(kinds[".txt"]) >= 6, kinds
    assert len(kinds[".json"]) >= 3, kinds
    assert len(kinds[".png"]) == 2, kinds


def test_the_demo_finds_the_pneumothorax_and_does_not_judge_the_ct(demo: Path) -> None:
    reports = [pydicom.dcmread(path) for path in demo.glob("*.dcm")]
    others = {SecondaryCaptureImageStorage, EncapsulatedPDFStorage}
    assert {str(report.SOPClassUID) for report in reports} == {str(sr.FINDINGS), str(sr.DRAFT), *map(str, others)}
    findings = [report for report in reports if report.SOPClassUID == sr.FINDINGS]
    outcomes = sorted((sr.outcome(report), sr.presences(report).get("Pneumothorax", "")) for report in findings)
    assert outcomes == [("Assessed", "Absent"), ("Assessed", "Present"), ("Not assessable", "Undetermined")]


def test_the_demo_s_bundles_are_transactions_and_its_picture_opens(demo: Path) -> None:
    bundles = [json.loads(path.read_text("utf-8")) for path in demo.glob("*.json")]
    assert [b["type"] for b in bundles if b.get("resourceType") == "Bundle"] == ["transaction"] * 3
    for picture in demo.glob("*.png"):
        with Image.open(picture) as image:
            image.load()
            assert min(image.size) >= 400
            assert len(image.convert("L").getcolors(256) or []) > 50, "not an empty page"


def test_the_demo_starts_over_and_never_over_another_folder(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", "utf-8")
    done = wetread("demo", "--out", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in " ".join((done.stdout + done.stderr).split())
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "mine"
    assert demo.is_dir()


def test_a_research_run_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    source, out = tmp_path / "archive", tmp_path / "run"
    drawn = {films.film(source, 50 + n, ["pneumothorax"] if n % 2 else [])[0]: n % 2 for n in range(STUDIES)}
    scan, _ = films.scan(source / "ct", 90)
    (source / "notes.txt").write_text("not DICOM", "utf-8")

    command = [sys.executable, "-m", "dicom_node.cli", "research", "run", "--source", source, "--out", out]
    first = Running("the research run", command, tmp_path / "first.log", environment())
    wait_for("three finished studies", lambda: len(_parts(out)) >= 3 or not first.alive, seconds=180, every=0.05)
    first.kill_session()
    before = {path: path.stat().st_mtime_ns for path in _parts(out)}
    assert 3 <= len(before) <= STUDIES, first.output
    assert not (out / "manifest.json").exists()

    done = wetread("research", "run", "--source", source, "--out", out, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished study was read again"

    table = pq.read_table(out / "results.parquet").to_pylist()
    decisions = {row["study_instance_uid"]: row["decision"] for row in table if row["finding"] == "pneumothorax"}
    assert len({(row["study_instance_uid"], row["finding"]) for row in table}) == len(table), "a row twice"
    assert set(decisions) == {*drawn, scan}
    assert decisions.pop(scan) == "not assessable"
    right = [uid for uid, present in drawn.items() if decisions[uid] == ("positive" if present else "negative")]
    assert len(right) >= 0.9 * STUDIES

    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text("utf-8").splitlines()]
    assert any("notes.txt" in json.dumps(error) for error in errors)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["mode"] == "research"
    assert manifest["counts"]["studies"] == STUDIES + 1
    assert len(manifest["inputs"]) == STUDIES + 3


def _parts(out: Path) -> list[Path]:
    return list((out / "parts").glob("*.json"))
