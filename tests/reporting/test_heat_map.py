"""Heat maps as pictures and as presentation states, over drawn and real films, judged by dciodvfy and rendered by DCMTK."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.errors import PixelError
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.pixels import read_instance, render_frame, select_frames
from inference.reading import Frame, FrameSource, HeatMap
from reporting.clean import quiet_headers
from reporting.context import Document, DocumentKind
from reporting.documents import build_documents
from reporting.heat_map_gsps import outlines
from reporting.overlay import LONG_SIDE, colour, draw_overlay, warmth_of
from tests.reporting.samples import OPTIONS, context, reading
from tests.support import peer_path, save

KINDS = frozenset({DocumentKind.HEAT_MAP, DocumentKind.HEAT_MAP_GSPS})
BOTH = replace(OPTIONS, kinds=KINDS)
SOURCE = FrameSource("1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.1")


def film(rows: int, columns: int, *, colour: bool = False) -> Frame:
    shape = (rows, columns, 3) if colour else (rows, columns)
    return Frame(np.full(shape, 90, np.uint8), SOURCE, "DX")


def hot(row: int, column: int, box: tuple[float, float, float, float], side: int = 14) -> HeatMap:
    grid = np.zeros((side, side))
    grid[row, column] = 1.0
    return HeatMap("pneumothorax", SOURCE, tuple(map(tuple, grid.tolist())), box, "made up")


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        (film(448, 448), (0, 0, 448, 448)),
        (film(1000, 500), (250, 0, 750, 500)),
        (film(500, 1000), (0, 250, 500, 750)),
        (film(3000, 2500), (250, 0, 2750, 2500)),
        (film(90, 64, colour=True), (13, 0, 77, 64)),
    ],
    ids=["square", "tall, middle seen", "wide, middle seen", "large", "small, colour"],
)
@pytest.mark.parametrize("cell", [(0, 0), (3, 10), (13, 13)])
def test_colour_lies_where_the_map_is_hot_and_nowhere_else(
    frame: Frame, box: tuple[float, float, float, float], cell: tuple[int, int]
) -> None:
    overlay = draw_overlay(frame, hot(*cell, box), ["AI draft"], ("most", "none"))
    top, left, bottom, right = overlay.film
    rows, columns = frame.pixels.shape[:2]
    scale = (bottom - top) / rows
    assert LONG_SIDE[0] - 1 <= max(bottom - top, right - left) <= LONG_SIDE[1] or scale == 1
    assert (right - left) / columns == pytest.approx(scale, abs=0.01)
    shown = overlay.picture[top:bottom, left:right].astype(int)
    coloured = np.ptp(shown, axis=2) > 0
    height, width = (box[2] - box[0]) / 14, (box[3] - box[1]) / 14
    centre = (box[0] + (cell[0] + 0.5) * height) * scale, (box[1] + (cell[1] + 0.5) * width) * scale
    assert coloured[int(centre[0]), int(centre[1])]
    away = np.argwhere(coloured) - centre
    assert np.abs(away[:, 0]).max() <= 1.6 * height * scale
    assert np.abs(away[:, 1]).max() <= 1.6 * width * scale
    assert (shown[~coloured] == shown[~coloured][:, :1]).all()  # the film elsewhere is grey as it was


def test_the_film_stays_visible_under_the_hottest_place() -> None:
    black, white = (np.full((64, 64, 3), value, np.uint8) for value in (0, 255))
    heat = HeatMap("k", SOURCE, ((1.0,),), (0, 0, 64, 64), "made up")
    assert np.abs(colour(white, heat, 1).astype(int) - colour(black, heat, 1)).min() > 100
    assert warmth_of(heat, (64, 64), 1).max() == 1


@pytest.mark.parametrize("cell", [(0, 0), (5, 9), (13, 13)])
def test_outlines_enclose_the_hot_cell_in_the_images_own_pixels(cell: tuple[int, int]) -> None:
    box = (100.0, 20.0, 1220.0, 580.0)
    (line,) = outlines(hot(*cell, box))
    polygon = Polygon(line)
    y, x = box[0] + (cell[0] + 0.5) * 80 + 0.5, box[1] + (cell[1] + 0.5) * 40 + 0.5
    assert polygon.contains_point((x, y))
    assert not polygon.contains_point((x, y + 130))
    assert not polygon.contains_point((x + 70, y))
    assert line[:, 0].min() >= box[1] + 0.5
    assert line[:, 1].max() <= box[2] + 0.5
    np.testing.assert_array_equal(line[0], line[-1])


def of_image(path: Path) -> tuple[Dataset, dict[DocumentKind, Document]]:
    """The heat map documents of a file's first frame that is read, with one place marked."""
    instance = read_instance(path)
    chosen = select_frames([instance]).chosen
    if not chosen:
        pytest.skip("nothing of this file is read")
    frame = render_frame(instance, chosen[0].frame_number)
    rows, columns = frame.pixels.shape[:2]
    heat = replace(hot(4, 9, (0, 0, rows, columns)), source=frame.source)
    read = replace(reading(frame.source, phantom=True), heat_maps=(heat,))
    with quiet_headers():
        study = str(instance.header.StudyInstanceUID)
        documents = build_documents(read, context(instance.header, study_instance_uid=study), BOTH, [frame])
    return instance.header, {document.kind: document for document in documents}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(phantom_dx(5, ["pneumothorax"], size=300), tmp_path_factory.mktemp("film") / "film.dcm")


def test_secondary_capture_says_what_it_is(phantom: Path) -> None:
    _, documents = of_image(phantom)
    ds = dcmread(BytesIO(documents[DocumentKind.HEAT_MAP].content))
    assert (ds.BurnedInAnnotation, ds.Modality, ds.ConversionType, list(ds.ImageType)) == (
        "YES",
        "OT",
        "WSD",
        ["DERIVED", "SECONDARY"],
    )
    assert "AI draft, not for diagnosis" in ds.ImageComments
    assert "PHANTOM" in ds.SeriesDescription
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == dcmread(phantom).SOPInstanceUID
    assert ds.pixel_array.shape == (ds.Rows, ds.Columns, 3)
    banner = ds.pixel_array[:40, :300]
    assert ((banner == 255).all(axis=2)).sum() > 300  # words of white
    assert not any(document.faults for document in documents.values())


def test_the_same_reading_gives_the_same_bytes(phantom: Path) -> None:
    assert of_image(phantom)[1] == of_image(phantom)[1]


def test_no_state_over_colour_and_nothing_without_a_film(phantom: Path) -> None:
    header = read_instance(phantom).header
    source = FrameSource(str(header.SOPInstanceUID), str(header.SOPClassUID), str(header.SeriesInstanceUID))
    read = replace(reading(source), heat_maps=(replace(hot(1, 1, (0, 0, 300, 300)), source=source),))
    study = str(header.StudyInstanceUID)
    rgb = Dataset()
    rgb.update(header)
    rgb.PhotometricInterpretation = "RGB"
    frames = [Frame(np.zeros((300, 300), np.uint8), source, "DX")]
    assert [d.kind for d in build_documents(read, context(rgb, study_instance_uid=study), BOTH, frames)] == [
        DocumentKind.HEAT_MAP
    ]
    assert build_documents(reading(source), context(header, study_instance_uid=study), BOTH, frames) == ()
    kinds = [d.kind for d in build_documents(read, context(header, study_instance_uid=study), BOTH)]
    assert kinds == [DocumentKind.HEAT_MAP_GSPS]  # outlines need no pixels


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=60, check=False,
        env={"PATH": peer_path()},
    )  # fmt: skip
    return done.stdout + done.stderr


@cache
def corpus() -> tuple[Path, ...]:
    import os

    root = Path(os.environ.get("WETREAD_DICOM") or Path(__file__).parents[2].parent / "shared" / "dicom")
    return tuple(
        sorted(path for folder in ("cxr", "cr_dx_mg", "ct", "mr", "us", "xa_rf") for path in root.glob(f"{folder}/*.dcm"))
    )


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in corpus()] or [pytest.param(None, id="no-corpus")]
)
def test_validators_find_no_error_over_real_images(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        pytest.skip("WETREAD_DICOM names no folder, and ../shared/dicom is absent")
    try:
        _, documents = of_image(path)
    except (PixelError, AttributeError) as error:
        pytest.skip(f"not an image that is read: {type(error).__name__}")
    for kind, document in documents.items():
        (tmp_path / f"{kind}.dcm").write_bytes(document.content)
        said = run("dciodvfy", "-new", tmp_path / f"{kind}.dcm")
        # The UID of a source with an illegal root can only be copied; one that is no UID at all refuses every document's header
        own = ("Illegal root for UID", "StudyInstanceUID")
        assert [line for line in said.splitlines() if line.startswith("Error") and not any(part in line for part in own)] == []
        assert document.faults == ()


@pytest.mark.skipif(not shutil.which("dcmp2pgm"), reason="dcmp2pgm is not installed (Debian: dcmtk)")
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_dcmtk_shows_the_film_under_the_state_as_we_show_it(photometric: str, tmp_path: Path) -> None:
    ds = phantom_dx(6, ["nodule"], size=200)
    ds.PhotometricInterpretation = photometric
    if photometric == "MONOCHROME1":
        ds.PresentationLUTShape = "INVERSE"
    path = save(ds, tmp_path / "film.dcm")
    _, documents = of_image(path)
    (tmp_path / "state.dcm").write_bytes(documents[DocumentKind.HEAT_MAP_GSPS].content)
    said = run("dcmp2pgm", "-p", tmp_path / "state.dcm", path, tmp_path / "out.pgm")
    assert (tmp_path / "out.pgm").is_file(), said
    shown = np.asarray(Image.open(tmp_path / "out.pgm")).astype(int)
    ours = render_frame(read_instance(path), 1).pixels.astype(int)
    assert np.abs(shown - ours).mean() < 1.5
