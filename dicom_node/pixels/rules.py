"""What of a study is read, by modality. The rules themselves are data (config/frames.yaml): see ``rules_file``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Take(StrEnum):
    """How the frames of a series or an image are chosen."""

    IMAGES = "images"  # every image; of a multi-frame one its first frame
    VIEWS = "views"  # one image for each view of a series' modality: the last one made; of a multi-frame one its middle frame
    SLICES = "slices"  # of a series: slices in anatomical order, evenly sampled
    CLIPS = "clips"  # of each image: the frames it names as key frames, else frames in time order, evenly sampled


@dataclass(frozen=True, slots=True)
class NamedWindow:
    """A window in modality units (HU in CT), shown instead of the file's own."""

    name: str
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class Rule:
    """``most``: frames taken of one series (SLICES) or of one image (the others).

    ``windows``: each chosen frame is shown once for each, None being the file's own. ``only_regions``: what lies outside an
    ultrasound image's two-dimensional regions is made black.
    """

    take: Take
    most: int = 1
    windows: tuple[NamedWindow | None, ...] = (None,)
    only_regions: bool = False


@dataclass(frozen=True, slots=True)
class FrameRules:
    """``most_frames`` of one study, whatever it holds: a study must not keep the others waiting."""

    by_modality: dict[str, Rule]
    other: Rule
    most_frames: int

    def of(self, modality: str) -> Rule:
        return self.by_modality.get(modality, self.other)


_PROJECTIONS = ("CR", "DX", "RG", "IO", "PX")
DEFAULT_RULES = FrameRules(
    by_modality={
        **dict.fromkeys(_PROJECTIONS, Rule(Take.IMAGES)),
        "MG": Rule(Take.VIEWS),
        **dict.fromkeys(("RF", "XA"), Rule(Take.CLIPS, 8)),
        **dict.fromkeys(("CT", "MR", "PT", "NM"), Rule(Take.SLICES, 16)),
        **dict.fromkeys(("US", "IVUS"), Rule(Take.CLIPS, 8, only_regions=True)),
        "ES": Rule(Take.CLIPS, 8),
    },
    other=Rule(Take.IMAGES),
    most_frames=64,
)
