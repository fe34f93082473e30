"""Which WetRead this is, and on which libraries it stands."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("dicom_node", "reporting", "inference")
_LIBRARIES: Final = frozenset(
    {
        "highdicom", "imagecodecs", "numpy", "open_clip_torch", "pydicom", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg",
        "pylibjpeg-rle", "python-gdcm", "timm", "torch", "transformers",
    }
)  # fmt: skip


def software_version() -> str:
    """The installed version of WetRead; "unknown" where it runs without being installed."""
    try:
        return version("wetread")
    except PackageNotFoundError:
        return "unknown"


def code_version() -> str:
    """Version and digest of the code: other code, another string, released or not."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{software_version()} {total.hexdigest()[:16]}"


def library_versions() -> dict[str, str]:
    """The versions of the libraries that decode, judge and write."""
    return dict(sorted((found.name, found.version) for found in distributions() if found.name in _LIBRARIES))
