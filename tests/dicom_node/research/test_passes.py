"""A run without models, as its user sees it: what it writes, what stops it, and that being killed changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dicom_node.errors import SettingsError
from tests.dicom_node.research.archive import GARBAGE, PATIENT_ID, go, lines, make_archive, make_plan, rows
from tests.support import CATALOGUE, MODEL, GreyReader

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    make_archive(root)
    return root


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made at once."""
    out = tmp_path_factory.mktemp("at_once") / "run"
    assert go(make_plan(source, out)) == 0
    return out


def test_a_row_for_every_study_and_finding(finished: Path) -> None:
    table = rows(finished)
    assert [row["study_instance_uid"] for row in table] == sorted(row["study_instance_uid"] for row in table)
    assert len({(row["study_instance_uid"], row["finding"]) for row in table}) == len(table) == 7 * 2
    films = [row for row in table if row["decision"] != "not assessable"]
    assert len(films) == 6 * 2
    for row in films:
        assert 0 <= row["probability"] <= 1
        assert (row["decision"] == "positive") == (row["probability"] >= row["threshold"])
        assert row["sop_instance_uid"]
        assert row["series_instance_uid"]
        assert row["frame_number"] == 1
    assert {row["triage_digest"] for row in table} == {MODEL.digest}
    assert {row["catalogue_digest"] for row in table} == {CATALOGUE.digest}
    assert {row["mode"] for row in table} == {"research"}
    assert {row["revision"] for row in table} == {1}


def test_a_study_outside_the_catalogue_says_why(finished: Path) -> None:
    table = [row for row in rows(finished) if row["decision"] == "not assessable"]
    assert len(table) == 2
    for row in table:
        assert row["probability"] is None
        assert row["sop_instance_uid"] is None
        assert "no radiograph" in row["reason"]
    told = [e for e in lines(finished / "errors.jsonl") if e["what"] == "study"]
    assert [(e["study_instance_uid"], e["failed"]) for e in told] == [(table[0]["study_instance_uid"], False)]


@pytest.mark.parametrize(("name", "part"), GARBAGE.items(), ids=GARBAGE.keys())
def test_every_file_that_is_no_study_is_told_with_its_reason(finished: Path, name: str, part: str) -> None:
    told = [e for e in lines(finished / "errors.jsonl") if e["path"] == name]
    assert len(told) == 1
    assert told[0]["what"] == "file"
    assert told[0]["reason"]
    assert part in told[0]["reason"]


def test_a_second_file_of_one_image_is_told_and_not_read(finished: Path) -> None:
    told = [e for e in lines(finished / "errors.jsonl") if e["path"] == "zz_copy/again.dcm"]
    assert len(told) == 1
    assert "second file of the same SOP Instance UID, with the same bytes" in told[0]["reason"]
    assert {row["images_read"] for row in rows(finished) if row["decision"] != "not assessable"} == {1}


def test_drafts_stand_with_their_confidence(finished: Path) -> None:
    drafts = lines(finished / "drafts.jsonl")
    assert len(drafts) == 7
    written = [draft for draft in drafts if draft["sentences"]]
    assert len(written) == 6
    assert all(draft["sentences"][0]["confidence"] == 0.5 for draft in written)
    assert [draft["reason"] for draft in drafts if not draft["sentences"]] == ["the study holds no radiograph"]


def test_the_manifest_names_every_file_that_went_in(source: Path, finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text("utf-8"))
    for entry in manifest["inputs"]:
        path = source / entry["path"]
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert (entry["size"], entry["sha256"]) == (path.stat().st_size, digest)
    assert len(manifest["inputs"]) == 6 + 1 + 3
    assert manifest["models"][0]["digest"] == MODEL.digest
    assert manifest["catalogue"]["digest"] == CATALOGUE.digest
    assert manifest["code"]
    assert manifest["started"] <= manifest["finished"]
    counts = manifest["counts"]
    assert (counts["studies"], counts["assessed"], counts["not_assessable"], counts["failed"]) == (7, 6, 1, 0)
    assert counts["files"] == 6 + 1 + 3 + len(GARBAGE)
    assert counts["files_of_no_study"] == len(GARBAGE)


def test_no_file_of_the_run_holds_a_patient(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            assert PATIENT_ID.encode() not in path.read_bytes(), path.name


def test_the_same_command_again_reads_nothing_and_changes_nothing(source: Path, tmp_path: Path) -> None:
    go(make_plan(source, tmp_path / "run"))
    before = (tmp_path / "run" / "results.parquet").read_bytes()

    def never() -> GreyReader:
        raise AssertionError("models were loaded although nothing is left to read")

    assert go(replace(make_plan(source, tmp_path / "run"), load_reader=never)) == 0
    assert (tmp_path / "run" / "results.parquet").read_bytes() == before


_SLOW_RUN = """
import sys
from pathlib import Path
from rich.console import Console
from dicom_node.research.passes import read_archive
from tests.dicom_node.research.archive import SlowReader, make_plan
sys.exit(read_archive(make_plan(Path(sys.argv[1]), Path(sys.argv[2]), SlowReader), Console(stderr=True)))
"""


_RUN_WITHOUT_SOCKETS = """
import os, sys
try:
    import urllib3  # pydicom loads it where it is installed, and it tries at import whether there is IPv6
except ImportError:
    pass
def forbid(event, _args):
    if event.startswith("socket."):
        os.write(2, f"{event} was called\\n".encode())
        os._exit(99)
sys.addaudithook(forbid)
import socket
try:
    hook_works = os.fork()
except OSError:
    raise SystemExit("no fork")
if hook_works == 0:
    socket.socket()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(hook_works, 0)[1]) == 99, "the hook sees no socket"
""" + _SLOW_RUN.replace("SlowReader", "GreyReader")


def test_no_socket_is_made(source: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _RUN_WITHOUT_SOCKETS, source, tmp_path / "run"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "manifest.json").exists()


def slow_run(source: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _SLOW_RUN, source, out], cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while len(list((out / "parts").glob("*.json"))) < count:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def test_killed_twice_and_resumed_it_gives_the_same(source: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for parts in (2, 4):
        process = slow_run(source, out)
        wait_for_parts(out, parts, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
        assert parts <= len(kept) < 7
        assert not (out / "manifest.json").exists()
    assert slow_run(source, out).wait() == 0
    for name, written in kept.items():
        assert (out / "parts" / name).stat().st_mtime_ns == written, "a finished study was read again"
    assert pq.read_table(out / "results.parquet").equals(pq.read_table(finished / "results.parquet"))
    for name in ("drafts.jsonl", "errors.jsonl"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert not list(out.rglob("*.part"))


def test_two_runs_do_not_work_in_one_folder(source: Path, tmp_path: Path) -> None:
    process = slow_run(source, tmp_path / "run")
    try:
        wait_for_parts(tmp_path / "run", 1, process)
        with pytest.raises(SettingsError, match="another run is at work"):
            go(make_plan(source, tmp_path / "run"))
    finally:
        process.kill()
        process.wait()


def test_a_half_written_part_is_no_part(source: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(make_plan(source, out))
    part = sorted((out / "parts").iterdir())[0]
    part.with_name(f".{part.name}.part").write_bytes(part.read_bytes()[:100])
    part.unlink()
    assert go(make_plan(source, out)) == 0
    assert not list(out.rglob("*.part"))
    assert pq.read_table(out / "results.parquet").equals(pq.read_table(finished / "results.parquet"))


OTHER = {
    "other weights": ({"models": (replace(MODEL, digest="ef" * 32),)}, "models.biomedclip.digest: was abab", "is now efef"),
    "other acknowledgement": ({"models": (replace(MODEL, acknowledgement="me"),)}, "acknowledgement", "me"),
    "a drafting model more": (
        {"models": (MODEL, replace(MODEL, kind="biomedgpt", name="drafter"))},
        "models.biomedgpt: was absent",
        "is now drafter",
    ),
    "other catalogue": ({"catalogue": replace(CATALOGUE, digest="00" * 32)}, "catalogue.digest: was cdcd", "is now 0000"),
    "other reading": ({"reading": "chest_ct"}, "reading: was chest_xray", "is now chest_ct"),
    "other source": ({"source": "/elsewhere"}, "source: was ", "is now /elsewhere"),
    "other pictures": ({"pixels": "fa" * 32}, "pixels: was", "is now fafa"),
    "other code": ({"code": "0.2.0 ff"}, "code: was 0.1.0", "is now 0.2.0 ff"),
}


@pytest.mark.parametrize(("change", "was", "now"), OTHER.values(), ids=OTHER.keys())
def test_a_run_made_with_something_else_is_refused(
    source: Path, finished: Path, change: dict[str, Any], was: str, now: str
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    plan = make_plan(source, finished)
    with pytest.raises(SettingsError) as caught:
        go(replace(plan, identity=replace(plan.identity, **change)))
    assert was in str(caught.value)
    assert now in str(caught.value)
    assert "--out" in str(caught.value)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_everything_that_differs_is_named_at_once(source: Path, finished: Path) -> None:
    plan = make_plan(source, finished)
    with pytest.raises(SettingsError) as caught:
        go(replace(plan, identity=replace(plan.identity, reading="other", code="other")))
    assert "reading: was" in str(caught.value)
    assert "code: was" in str(caught.value)
