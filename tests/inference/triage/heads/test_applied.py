"""Heads on disk and at work: read back whole, refused where they do not belong, applied as they were fitted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from inference.bundles import Bundle, BundleCard
from inference.errors import HeadError
from inference.reading import Decision, Frame, FrameSource, HeadVersion, Method
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.heads.applied import Heads, open_heads
from inference.triage.heads.manifest import (
    MANIFEST,
    WEIGHTS,
    HeadCard,
    HeadFinding,
    Tie,
    Weights,
    prompts_digest,
    read_head,
    read_weights,
    write_head,
)
from inference.triage.heads.transform import Transform
from inference.triage.judge import NOT_TRAINED, judge

ROOT = Path(__file__).resolve().parents[4]
BUNDLE = Bundle(Path("nowhere"), BundleCard("tiny", "biomedclip", "1", "made here", "none", "tests", ()), (("weights", "ab"),))
CALIBRATED = (
    HeadFinding("pneumothorax", Transform("platt", slope=0.5, offset=-1.0), threshold=0.3, films=90, positives=30),
    HeadFinding("nodule", unusable="on 90 labelled films of this site the model was not better than chance for this finding"),
    HeadFinding(
        "device",
        Transform("isotonic", knots=(-1.0, 2.0), values=(0.1, 0.8)),
        threshold=0.5,
        band=(0.4, 0.6),
        films=90,
        positives=40,
    ),
)
PROBED = (
    HeadFinding("rib_fracture", Transform("temperature", slope=2.0), threshold=0.6),
    HeadFinding("pneumothorax", Transform("platt", slope=1.0, offset=0.5), threshold=0.7),
)
WEIGHTS_OF_PROBE = Weights(np.array([[1, 0, 0], [0, 2, 0]], np.float32), np.array([0.25, -0.5], np.float32))


def card(kind: str, catalogue: FindingsCatalogue) -> HeadCard:
    prompts = {entry.key: prompts_digest(catalogue, entry) for entry in catalogue.findings} if kind == "calibration" else {}
    return HeadCard(
        kind=kind,  # type: ignore[arg-type]
        name="site",
        version="3",
        made="2026-11-22",
        tie=Tie("tiny 1", BUNDLE.digest, "chest_xray 2", catalogue.digest, prompts),
        wish="sensitivity 0.95",
        films=90,
        patients=60,
        findings=CALIBRATED if kind == "calibration" else PROBED,
    )


@pytest.fixture
def calibration(tmp_path: Path, catalogue: FindingsCatalogue) -> Path:
    folder = tmp_path / "calibration"
    folder.mkdir()
    (folder / "report.md").write_text("# a report\n", "utf-8")
    write_head(folder, card("calibration", catalogue))
    return folder


@pytest.fixture
def probe(tmp_path: Path, catalogue: FindingsCatalogue) -> Path:
    folder = tmp_path / "probe"
    folder.mkdir()
    write_head(folder, card("probe", catalogue), WEIGHTS_OF_PROBE)
    return folder


def test_a_head_is_read_back_whole(calibration: Path, probe: Path, catalogue: FindingsCatalogue) -> None:
    found = read_head(calibration, "calibration")
    assert replace(found, files={}) == card("calibration", catalogue)
    assert found.files.keys() == {"report.md"}
    again = read_head(probe, "probe")
    assert again.files.keys() == {WEIGHTS}
    weights = read_weights(probe, again)
    np.testing.assert_array_equal(weights.weights, WEIGHTS_OF_PROBE.weights)
    np.testing.assert_array_equal(weights.biases, WEIGHTS_OF_PROBE.biases)
    assert found.head_version() == HeadVersion("calibration", "site", "3", found.digest)


def test_the_digest_tells_heads_apart_and_the_same_fit_makes_the_same(tmp_path: Path, catalogue: FindingsCatalogue) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = (write_head(folder, card("probe", catalogue), WEIGHTS_OF_PROBE) for folder in folders)
    assert first.digest == second.digest
    other = replace(WEIGHTS_OF_PROBE, biases=np.array([0.25, -0.4], np.float32))
    assert write_head(folders[0], card("probe", catalogue), other).digest != second.digest
    assert replace(second, version="4").digest != second.digest


def edit(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text("utf-8"))
        change(data)
        (folder / MANIFEST).write_text(json.dumps(data), "utf-8")

    return do


DAMAGE = {
    "no folder": (lambda folder: (folder / MANIFEST).unlink(), "no calibration here.*wetread calibrate"),
    "no JSON": (lambda folder: (folder / MANIFEST).write_text("{"), "damaged or incomplete"),
    "no object": (lambda folder: (folder / MANIFEST).write_text("[]"), "damaged or incomplete"),
    "threshold by hand": (edit(lambda d: d["head"]["findings"][0].update(threshold=0.01)), "changed by hand"),
    "threshold no number": (edit(lambda d: d["head"]["findings"][0].update(threshold="low")), r"findings.0.threshold"),
    "key missing": (edit(lambda d: d["head"].pop("tie")), "damaged or incomplete .tie"),
    "falling slope": (edit(lambda d: d["head"]["findings"][0]["transform"].update(slope=-1)), "slope above 0"),
    "form of tomorrow": (edit(lambda d: d["head"].update(form=2)), "form 2 is not understood"),
    "report lost": (lambda folder: (folder / "report.md").unlink(), "report.md is missing"),
    "report altered": (lambda folder: (folder / "report.md").write_text("better"), "report.md differs"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_head_is_refused(calibration: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(calibration)
    with pytest.raises(HeadError, match=says) as caught:
        read_head(calibration, "calibration")
    assert str(calibration) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"\x80\x04pickle", "damaged", id="no archive"),
        pytest.param(b"PK\x03\x04", "damaged", id="cut"),
        pytest.param(b"", "damaged", id="empty"),
    ],
)
def test_damaged_weights_are_refused(probe: Path, data: bytes, says: str) -> None:
    found = read_head(probe, "probe")
    (probe / WEIGHTS).write_bytes(data)
    with pytest.raises(HeadError, match="differs from its sha256"):
        read_head(probe, "probe")
    with pytest.raises(HeadError, match=says):
        read_weights(probe, found)


def test_a_pickle_among_the_weights_is_not_opened(probe: Path) -> None:
    found = read_head(probe, "probe")
    np.savez(probe / WEIGHTS, weights=np.array([{}], dtype=object), biases=np.zeros(1))
    with pytest.raises(HeadError, match="damaged"):
        read_weights(probe, found)


def test_weights_of_another_shape_are_refused(probe: Path) -> None:
    found = read_head(probe, "probe")
    np.savez(probe / WEIGHTS, weights=np.zeros((3, 4)), biases=np.zeros(3))
    with pytest.raises(HeadError, match="for 2 findings"):
        read_weights(probe, found)


def test_kinds_are_not_confused(calibration: Path, probe: Path) -> None:
    with pytest.raises(HeadError, match="this is a calibration; set it as `calibration`"):
        read_head(calibration, "probe")
    with pytest.raises(HeadError, match="this is a probe"):
        read_head(probe, "calibration")


def test_another_model_is_refused(calibration: Path, probe: Path, catalogue: FindingsCatalogue) -> None:
    other = replace(BUNDLE, files=(("weights", "cd"),))
    for folders in ((calibration, None), (None, probe)):
        with pytest.raises(HeadError, match=r"was fitted for tiny 1 .*its numbers mean nothing there\. Fit it again"):
            open_heads(*folders, "decide", other, catalogue)
        open_heads(*folders, "decide", BUNDLE, catalogue)


def changed(catalogue: FindingsCatalogue, key: str, **changes: object) -> FindingsCatalogue:
    return replace(
        catalogue,
        findings=tuple(replace(one, **changes) if one.key == key else one for one in catalogue.findings),  # type: ignore[arg-type]
    )


def test_other_prompts_are_refused_by_a_calibration_only(calibration: Path, probe: Path, catalogue: FindingsCatalogue) -> None:
    other = changed(catalogue, "device", positive=("a pacemaker",))
    with pytest.raises(HeadError, match=r"the prompts of device in the catalogue .*Fit it again with this catalogue"):
        open_heads(calibration, None, "decide", BUNDLE, other)
    open_heads(None, probe, "decide", BUNDLE, other)
    with pytest.raises(HeadError, match="the prompts of pneumothorax, nodule, device"):
        open_heads(calibration, None, "decide", BUNDLE, replace(catalogue, templates=("a film of {}",)))


@pytest.mark.parametrize(
    "change", [{"threshold": 0.9}, {"display": "Else"}, {"positive": ("other",)}], ids=["threshold", "name", "another finding"]
)
def test_what_a_calibration_does_not_rest_on_may_change(
    calibration: Path, catalogue: FindingsCatalogue, change: dict[str, object]
) -> None:
    key = "device" if "positive" not in change else "pneumomediastinum"
    open_heads(calibration, None, "decide", BUNDLE, changed(catalogue, key, **change))


def test_a_catalogue_without_any_of_its_findings_is_refused(probe: Path, catalogue: FindingsCatalogue) -> None:
    other = replace(catalogue, findings=tuple(one for one in catalogue.findings if one.key == "device"))
    with pytest.raises(HeadError, match="none of its findings"):
        open_heads(None, probe, "decide", BUNDLE, other)


MARGINS = np.linspace(-3, 3, 5)
VECTORS = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)
JUDGED = frozenset({"pneumothorax", "nodule", "device", "cardiomegaly"})


@pytest.fixture
def margins(catalogue: FindingsCatalogue) -> np.ndarray:
    return np.repeat(MARGINS[:, None], len(catalogue.keys), axis=1).astype(np.float32)


def test_without_heads_the_model_speaks_for_itself(catalogue: FindingsCatalogue, margins: np.ndarray) -> None:
    heads = open_heads(None, None, "decide", BUNDLE, catalogue)
    said = heads.opinion(margins, VECTORS, JUDGED)
    np.testing.assert_allclose(said.probabilities, expit(margins), rtol=1e-6)
    assert said.judged == JUDGED
    assert not said.rulings
    assert heads.versions == ()
    assert heads.shadow(margins, VECTORS) is None


def test_a_calibration_and_a_probe_decide(
    calibration: Path, probe: Path, catalogue: FindingsCatalogue, margins: np.ndarray
) -> None:
    heads = open_heads(calibration, probe, "decide", BUNDLE, catalogue)
    said = heads.opinion(margins, VECTORS, JUDGED)
    column = {key: said.probabilities[:, k] for k, key in enumerate(catalogue.keys)}
    np.testing.assert_allclose(column["device"], np.interp(MARGINS, (-1, 2), (0.1, 0.8)), rtol=1e-5)
    np.testing.assert_allclose(column["rib_fracture"], expit(2 * (VECTORS[:, 0] + 0.25)), rtol=1e-5)
    np.testing.assert_allclose(column["pneumothorax"], expit(2 * VECTORS[:, 1] - 0.5 + 0.5), rtol=1e-5)  # the probe, not platt
    np.testing.assert_allclose(column["cardiomegaly"], expit(MARGINS), rtol=1e-5)
    assert said.judged == JUDGED | {"rib_fracture"}
    assert {key: ruling.method for key, ruling in said.rulings.items()} == {
        "pneumothorax": Method.PROBE, "nodule": Method.CALIBRATED, "device": Method.CALIBRATED, "rib_fracture": Method.PROBE,
    }  # fmt: skip
    assert [one.kind for one in heads.versions] == ["calibration", "probe"]


def test_a_probe_in_shadow_changes_nothing(
    calibration: Path, probe: Path, catalogue: FindingsCatalogue, margins: np.ndarray
) -> None:
    heads = open_heads(calibration, probe, "shadow", BUNDLE, catalogue)
    alone = open_heads(calibration, None, "decide", BUNDLE, catalogue).opinion(margins, VECTORS, JUDGED)
    said = heads.opinion(margins, VECTORS, JUDGED)
    np.testing.assert_array_equal(said.probabilities, alone.probabilities)
    assert (said.judged, said.rulings) == (alone.judged, alone.rulings)
    shadow = heads.shadow(margins, VECTORS)
    assert shadow is not None
    assert shadow.judged == {"rib_fracture", "pneumothorax"}
    decided = open_heads(calibration, probe, "decide", BUNDLE, catalogue).opinion(margins, VECTORS, JUDGED)
    for key in shadow.judged:
        k = catalogue.keys.index(key)
        np.testing.assert_array_equal(shadow.probabilities[:, k], decided.probabilities[:, k])
    assert [one.kind for one in heads.versions] == ["calibration", "probe in shadow"]
    assert [words.split()[0] for words in heads.words] == ["calibration", "probe"]


def test_decisions_follow_the_heads(calibration: Path, catalogue: FindingsCatalogue, margins: np.ndarray) -> None:
    said = Heads(catalogue, read_head(calibration, "calibration")).opinion(margins, VECTORS, JUDGED)
    found = {}
    for row, margin in enumerate(MARGINS):
        frame = Frame(np.zeros((4, 4), np.uint8), FrameSource("1.2", "1.3", "1.4"), "DX")
        for one in judge(catalogue, [frame], said.probabilities[row : row + 1], said.judged, said.rulings):
            found[one.key, round(float(margin), 1)] = one
    assert [found["pneumothorax", m].decision for m in (-3.0, 0.0, 1.5)] == [
        Decision.NEGATIVE,
        Decision.NEGATIVE,
        Decision.POSITIVE,
    ]
    assert found["pneumothorax", 1.5].threshold == 0.3
    assert found["pneumothorax", 1.5].method is Method.CALIBRATED
    assert logit(found["pneumothorax", 1.5].probability) == pytest.approx(0.5 * 1.5 - 1.0, abs=1e-5)
    assert {found["nodule", m].decision for m in (-3.0, 3.0)} == {Decision.NOT_ASSESSABLE}
    assert "not better than chance" in found["nodule", 3.0].reason
    assert [found["device", m].decision for m in (-3.0, 1.5, 3.0)] == [Decision.NEGATIVE, Decision.POSITIVE, Decision.POSITIVE]
    assert found["cardiomegaly", 3.0].method is Method.ZERO_SHOT
    assert found["rib_fracture", 3.0].reason == NOT_TRAINED


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_never_becomes_one(
    calibration: Path, probe: Path, catalogue: FindingsCatalogue, margins: np.ndarray, value: float
) -> None:
    margins[0], vectors = value, VECTORS.copy()
    vectors[0] = value
    said = open_heads(calibration, probe, "decide", BUNDLE, catalogue).opinion(margins, vectors, JUDGED)
    assert np.isnan(said.probabilities[0]).all()
    assert np.isfinite(said.probabilities[1:]).all()


def test_embeddings_of_another_width_are_refused(probe: Path, catalogue: FindingsCatalogue, margins: np.ndarray) -> None:
    heads = open_heads(None, probe, "decide", BUNDLE, catalogue)
    with pytest.raises(HeadError, match="fitted on 3 numbers, the model gives 4"):
        heads.opinion(margins, np.zeros((5, 4), np.float32), JUDGED)


def test_a_frame_is_judged_alone_as_in_company(
    calibration: Path, probe: Path, catalogue: FindingsCatalogue, margins: np.ndarray
) -> None:
    heads = open_heads(calibration, probe, "decide", BUNDLE, catalogue)
    whole = heads.opinion(margins, VECTORS, JUDGED).probabilities
    alone = [heads.opinion(margins[k : k + 1], VECTORS[k : k + 1], JUDGED).probabilities[0] for k in range(5)]
    np.testing.assert_array_equal(whole, np.stack(alone))


def test_applying_a_head_loads_no_fitting_library() -> None:
    code = (
        "import sys\nimport inference.options, inference.triage.heads.applied\n"
        "print([name for name in ('sklearn', 'scipy', 'matplotlib', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
