"""`wetread ask`, `draft` and `summarize` on drawn films: as pictures, as DICOM, and as a study of the node's own store."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from PIL import Image

from dicom_node import app, cli
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.settings import load_settings
from dicom_node.storage.instances import NewInstance, record_instance
from inference.bundles import open_bundle, write_manifest
from inference.drafting.config import read_config, write_config
from inference.drafting.results import Task
from inference.phantoms import bundle_folder, draw_phantom
from reporting.context import DocumentKind
from tests.reporting.samples import OPTIONS, by_kind, context, reading
from tests.support import save

ROOT = Path(__file__).parents[2]
SEED = 501  # its film shows what FINDINGS names
FINDINGS = frozenset({"pneumothorax"})
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    structlog.reset_defaults()


@pytest.fixture
def wetread(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; its exit status, standard output and standard error."""

    def say(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wetread", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        out = capsys.readouterr()
        return (code if isinstance(code, int) else 0 if code is None else 1), out.out, out.err

    return say


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    Image.fromarray(draw_phantom(SEED, FINDINGS).pixels).save(path)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return save(phantom_dx(SEED, FINDINGS), tmp_path / "film.dcm")


@pytest.fixture
def stored(tmp_path: Path, film: Path) -> tuple[Path, str]:
    """A node's settings, and the study that its store holds."""
    config = tmp_path / "node.yaml"
    config.write_text("listener: {port: 0}\n", "utf-8")
    settings = load_settings(config)
    ds = phantom_dx(SEED, FINDINGS)
    data = film.read_bytes()
    files = app.open_files(settings)
    spool = files.spool(b"")
    spool.write(data)
    kept = spool.keep(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID))
    new = NewInstance(
        str(ds.SOPInstanceUID), str(ds.SOPClassUID), str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID), "1.2.840.10008.1.2.1",
        kept.path, kept.size, hashlib.sha256(data).hexdigest(), "d" * 64,
    )  # fmt: skip
    with closing(app.open_database(settings)) as db, db.write() as conn:
        record_instance(conn, new, 1.0)
    return config, str(ds.StudyInstanceUID)


def test_a_real_process_answers_about_a_picture(picture: Path) -> None:
    command = [sys.executable, "-m", "dicom_node.cli", "ask", str(picture), "is there a pneumothorax?", "--choices", "yes,no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert re.search(r"Answer: (yes|no) \[\d+\.\d %\]", said)  # how often it is right stands in the benchmark
    assert re.search(r"yes \d+\.\d %, no \d+\.\d %", said)
    assert f"Image: {picture}" in said
    assert "phantom – not for patients" in said
    assert "not a diagnosis" in said


def test_an_open_question_about_dicom(wetread: Say, film: Path) -> None:
    code, out, _ = wetread("ask", film, "on which side is the pneumothorax?", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["answer"]
    assert 0 < answer["score"] <= 1
    assert answer["image"]["sop_instance_uid"] == str(phantom_dx(SEED, FINDINGS).SOPInstanceUID)
    assert answer["model"]["phantom"]
    assert answer["choices"] == []


def test_choices_each_have_a_score(wetread: Say, film: Path) -> None:
    _, out, _ = wetread("ask", film, "Is there a pleural effusion?", "--choices", "yes, no", "--json")
    answer = json.loads(out)
    assert answer["answer"] == max(answer["choices"], key=lambda one: one["probability"])["text"]
    assert [one["text"] for one in answer["choices"]] == ["yes", "no"]
    assert sum(one["probability"] for one in answer["choices"]) == pytest.approx(1)


def test_a_study_of_the_nodes_own_store(wetread: Say, stored: tuple[Path, str]) -> None:
    config, study = stored
    code, out, _ = wetread("ask", study, "is there a pneumothorax?", "--config", config, "--choices", "yes,no")
    assert code == 0
    assert re.search("Answer: (yes|no)", out)


def test_a_draft_is_held_against_triage(wetread: Say, film: Path) -> None:
    code, out, _ = wetread("draft", film)
    assert code == 0
    assert "pneumothorax. [confidence" in out
    assert re.search("compared with the findings by natural-language inference by .*phantom.* and rules over words", out)
    assert "AI draft, not a diagnosis" in out
    assert "research mode" in out


def test_plain_pictures_have_a_draft_each_and_no_comparison_without_a_modality(wetread: Say, picture: Path) -> None:
    other = picture.with_name("normal.png")
    Image.fromarray(draw_phantom(77, frozenset()).pixels).save(other)
    code, out, _ = wetread("draft", picture, other, "--json")
    first, second = json.loads(out)
    assert code == 0
    assert any("pneumothorax" in sentence["text"] for sentence in first["sentences"])
    assert [image["file"] for image in second["images"]] == [str(other)]
    assert first["checked"] == second["checked"] == ""
    code, out, _ = wetread("draft", picture, "--modality", "dx", "--json")
    assert json.loads(out)[0]["checked"]


def test_a_bundle_that_was_not_trained_to_summarise_says_so(wetread: Say, tmp_path: Path) -> None:
    bundle = tmp_path / "captions"
    shutil.copytree(bundle_folder("biomedgpt"), bundle)
    write_config(replace(read_config(bundle / "config.json"), tasks=(Task.CAPTION,)), bundle)
    write_manifest(bundle, open_bundle(bundle).card)
    settings, text = tmp_path / "captions.yaml", tmp_path / "findings.txt"
    settings.write_text("readings: {chest_xray: {triage: phantom, drafting: captions, catalogue: chest_xray}}\n", "utf-8")
    text.write_text("small left pneumothorax.", "utf-8")
    code, _, err = wetread("summarize", text, "--config", settings)
    assert code == 2
    assert "was not trained for summary" in err


def test_a_summary_of_a_text_and_of_a_structured_report(wetread: Say, tmp_path: Path) -> None:
    text = tmp_path / "findings.txt"
    text.write_text("There is a small left pneumothorax. No pleural effusion. The heart size is normal.\n", "utf-8")
    code, out, _ = wetread("summarize", text)
    assert code == 0
    assert "[confidence" in out
    assert "not a diagnosis" in out
    report = tmp_path / "draft.dcm"
    report.write_bytes(by_kind(reading(), context(), OPTIONS)[DocumentKind.DRAFT_SR].content)
    code, out, _ = wetread("summarize", report, "--json")
    assert code == 0
    assert json.loads(out)["sentences"][0]["text"]


def test_a_summary_of_a_pipe(wetread: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"clear lungs. normal heart size. no pneumothorax.")))
    code, out, _ = wetread("summarize", "-")
    assert code == 0
    assert "not a diagnosis" in out


def test_nothing_leaves_whatever_the_settings_say(wetread: Say, film: Path, tmp_path: Path) -> None:
    config = tmp_path / "assist.yaml"
    config.write_text("listener: {port: 0}\nmode: assist\n", "utf-8")
    _, out, _ = wetread("draft", film, "--config", config, "--json")
    assert "research mode" in json.loads(out)[0]["notice"]


MISTAKES = {
    "no question": (["ask", "FILM"], "and then the question"),
    "empty question": (["ask", "FILM", "  ?? "], "question is empty"),
    "endless question": (["ask", "FILM", "is there " + "very " * 100 + "much?"], "longer than the 80 words"),
    "long words": (["ask", "FILM", "x" * 2000], "tokens"),
    "missing file": (["ask", "nowhere.png", "is there a nodule?"], "nowhere.png: no such file"),
    "a UID without a store": (["ask", "1.2.3.4", "is there a nodule?"], "--config"),
    "one choice": (["ask", "FILM", "is there a nodule?", "--choices", "yes"], "at least two"),
    "a choice twice": (["ask", "FILM", "is there a nodule?", "--choices", "yes,yes"], "twice"),
    "one colour": (["ask", "GREY", "is there a nodule?"], "uniform"),
    "no picture": (["ask", "TEXT", "is there a nodule?"], "no picture"),
    "unknown reading": (["ask", "FILM", "is there a nodule?", "--reading", "mars"], "mars"),
    "nothing to draft": (["draft", "TEXT"], "no picture"),
    "no text file": (["summarize", "nowhere.txt"], "nowhere.txt: cannot be opened"),
    "empty text": (["summarize", "EMPTY"], "no text"),
    "bytes that are no text": (["summarize", "GREY"], "neither UTF-8 text nor a DICOM structured report"),
    "a film is no report": (["summarize", "DICOM"], "no structured report"),
    "longer than the model reads": (["summarize", "LONG"], "longer than this model reads"),
    "far too large": (["summarize", "HUGE"], "1 MiB"),
}


@pytest.mark.parametrize(("words", "wanted"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_and_status_2(
    wetread: Say, picture: Path, tmp_path: Path, words: list[str], wanted: str, request: pytest.FixtureRequest
) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(grey)
    texts = {"TEXT": "no picture.", "EMPTY": " \n", "LONG": "no nodule. " * 400, "HUGE": "a" * (2 << 20)}
    files = {"FILM": picture, "GREY": grey}
    for name, text in texts.items():
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text(text, "utf-8")
    if "DICOM" in words:
        files["DICOM"] = request.getfixturevalue("film")
    code, _, err = wetread(*[str(files.get(word, word)) for word in words])
    assert code == 2
    assert wanted in err
    assert "Traceback" not in err


def test_a_draft_of_one_colour_says_why_and_ends_with_2(wetread: Say, tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(grey)
    code, out, _ = wetread("draft", grey)
    assert code == 2
    assert "No draft text was made: no draft: the image is uniform." in out


def test_a_study_the_store_does_not_hold(wetread: Say, stored: tuple[Path, str]) -> None:
    code, _, err = wetread("ask", "1.2.3.4", "is there a nodule?", "--config", stored[0])
    assert code == 2
    assert "holds no such study" in err


def test_two_films_of_a_study_give_one_draft(wetread: Say, film: Path) -> None:
    ds = phantom_dx(SEED, FINDINGS)
    ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.9"[:64]
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    save(ds, film.with_name("second.dcm"))
    _, out, _ = wetread("draft", film.parent, "--json")
    (one,) = json.loads(out)
    assert len(one["images"]) == 2
    assert len({sentence["sop_instance_uid"] for sentence in one["sentences"]}) == 1
