"""The six findings a phantom may show: where each lies, how it looks, and the words for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference.phantoms.anatomy import Body, Field, Fields, blob, ramp

KEYS: Final = ("pleural_effusion", "pneumothorax", "consolidation", "cardiomegaly", "nodule", "device")
SIZES: Final = ("small", "moderate", "large")
_EFFUSION_HEIGHT: Final = {
    "small": (0.20, 0.27),
    "moderate": (0.36, 0.48),
    "large": (0.62, 0.82),
}  # half-widths above the angle
_PNEUMOTHORAX_GAP: Final = {"small": (0.12, 0.15), "moderate": (0.17, 0.22), "large": (0.26, 0.34)}  # half-widths of free air
_ZONE_DEPTH: Final = {"upper": (0.22, 0.32), "mid": (0.42, 0.54), "lower": (0.64, 0.72)}  # fraction of apex to base


@dataclass(frozen=True, slots=True)
class Lesion:
    """One drawn finding. ``side`` is the patient's; ``extent`` and ``at`` mean what the key's own drawing says."""

    key: str
    side: str = ""
    size: str = ""
    zone: str = ""
    extent: float = 0.0
    at: tuple[float, float] = (0.0, 0.0)

    @property
    def sign(self) -> int:
        """-1 for the patient's right, which is left in the picture."""
        return -1 if self.side == "right" else 1


def place(keys: Collection[str], body: Body, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Sides, sizes and places for the wanted findings so that none hides another."""
    effusion_side = str(rng.choice(["right", "left"]))
    other = "left" if effusion_side == "right" else "right"
    both = {"pleural_effusion", "pneumothorax"} <= set(keys)
    focal_side = other if "pleural_effusion" in keys or "pneumothorax" in keys else str(rng.choice(["right", "left"]))
    sides = {
        "pleural_effusion": effusion_side,
        "pneumothorax": other if both else effusion_side,
        "consolidation": focal_side,
        "nodule": ("left" if focal_side == "right" else "right") if "consolidation" in keys else focal_side,
        "device": str(rng.choice(["left", "left", "right"])),
    }
    crowded = both or {"consolidation", "nodule"} <= set(keys)
    drawn = (_one(key, sides.get(key, ""), crowded, body, rng) for key in KEYS)  # every key draws: one does not move another
    return tuple(lesion for lesion in drawn if lesion.key in keys)


def _one(key: str, side: str, crowded: bool, body: Body, rng: np.random.Generator) -> Lesion:
    size = str(rng.choice(SIZES[:2] if crowded else SIZES))
    zone = str(rng.choice(["upper", "mid"] if crowded else ["upper", "mid", "lower"]))
    sign = -1 if side == "right" else 1
    if key == "pleural_effusion":
        return Lesion(key, side, size, extent=rng.uniform(*_EFFUSION_HEIGHT[size]))
    if key == "pneumothorax":
        return Lesion(key, side, size, extent=rng.uniform(*_PNEUMOTHORAX_GAP[size]))
    if key == "consolidation":
        return Lesion(key, side, zone=zone, extent=rng.uniform(0.15, 0.22), at=_in_lung(zone, sign, body, rng, 0.5))
    if key == "nodule":
        return Lesion(key, side, zone=zone, extent=rng.uniform(0.050, 0.075), at=_in_lung(zone, sign, body, rng, 0.58))
    if key == "device":
        return Lesion(key, side, size=str(rng.choice(["pacemaker", "line", "tube"])), extent=rng.uniform(0.9, 1.1))
    return Lesion(key)


def _in_lung(zone: str, sign: int, body: Body, rng: np.random.Generator, across: float) -> tuple[float, float]:
    """A point of the lung clear of the mediastinum and, on the left, of the heart."""
    base = body.base[0 if sign < 0 else 1]
    depth = rng.uniform(*_ZONE_DEPTH[zone])
    wall = body.chest * (0.78 if zone == "upper" else 0.92)
    heart = abs(body.heart_centre[0] + sign * body.heart_half_width) if zone == "lower" else 0.0
    medial = max(body.mediastinum + 0.08, heart)
    x = medial + (wall - medial) * np.clip(across + rng.uniform(-0.14, 0.14), 0, 1)
    return float(sign * x), float(body.apex + depth * (base - body.apex))


def effusion(lesion: Lesion, at: Fields, body: Body) -> Field:
    """Fluid: everything of the hemithorax below a level that climbs at the chest wall (the meniscus)."""
    base = body.base[0 if lesion.sign < 0 else 1]
    climb = np.clip((at.lateral - 0.4 * body.chest) / (0.6 * body.chest), 0, 1) ** 2
    level = base - lesion.extent * (0.55 + 0.45 * climb)
    chest = ramp(at.outer - at.lateral) * ramp(at.lateral - at.inner) * ramp(at.x * lesion.sign, 0.01)
    fluid: Field = (chest * ramp(at.y - level, 0.05) * ramp(base + 0.02 - at.y, 0.05)).astype(np.float32)
    return fluid


def free_air(lesion: Lesion, at: Fields) -> tuple[Field, Field]:
    """Free air beside the lung, widest at the apex and side, and the thin pleural line at its edge."""
    half = at.x * lesion.sign > 0
    edge = at.outer - np.float32(lesion.extent) - at.lateral
    air = np.where(half, at.lung * ramp(-edge, 0.012), 0).astype(np.float32)
    line = np.where(half, at.lung * np.clip(1 - np.abs(edge) / 0.014, 0, 1), 0).astype(np.float32)
    return air, line


def consolidation(lesion: Lesion, at: Fields, mottle: Field) -> Field:
    """A patch of ill-defined shadow: an ellipse whose edge is moved by ``mottle`` (about -1..1)."""
    dx, dy = (at.x - lesion.at[0]) / (lesion.extent * 1.15), (at.y - lesion.at[1]) / lesion.extent
    patch: Field = (ramp(1 - np.sqrt(dx * dx + dy * dy) + 0.25 * mottle, 0.6) * at.lung).astype(np.float32)
    return patch


def nodule(lesion: Lesion, at: Fields) -> Field:
    """A round shadow with a sharp edge."""
    return blob(at.x, at.y, lesion.at, (lesion.extent, lesion.extent), 0.25)
