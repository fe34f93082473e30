"""What was measured at the first start: the published tower's answers on the reference set, and how long each way took."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.cache_files import read_checked, write_checked
from inference.triage.parity import FORM

_LIBRARIES: Final = ("numpy", "open_clip_torch", "pillow", "timm", "torch", "torchvision")
_CPU: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """``vectors``: unit embeddings of the reference set in float32 (images, width). ``seconds``: of one image, by way."""

    vectors: NDArray[np.float32]
    seconds: dict[str, float]


class RecordFile:
    """The record of one model on one machine. Without a folder there is none, and nothing is written."""

    def __init__(self, folder: Path | None, model: str, device: torch.device) -> None:
        libraries = {name: version(name) for name in _LIBRARIES}
        machine = {"device": _name(device), "threads": torch.get_num_threads(), "cores": os.cpu_count()}
        self._identity = {"form": FORM, "model": model, **libraries, **machine}
        name = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"{name[:32]}.speed" if folder else None

    def read(self) -> Record | None:
        """The record, or None where there is none or it cannot be trusted."""
        content = read_checked(self._path) if self._path else None
        try:
            said = json.loads(content or b"null")
            if not isinstance(said, dict) or said["identity"] != self._identity:
                return None
            seconds = {str(name): float(value) for name, value in said["seconds"].items()}
            vectors = np.array(said["vectors"], np.float32)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return Record(vectors, seconds) if vectors.ndim == 2 and seconds.get("float32", 0) > 0 else None

    def write(self, record: Record) -> None:
        if self._path:
            said = {"identity": self._identity, "seconds": record.seconds, "vectors": record.vectors.tolist()}
            write_checked(self._path, json.dumps(said).encode())


def _name(device: torch.device) -> str:
    """The processor by its name and what it can do: another machine, or a moved container, is measured anew."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = _CPU.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    said = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "flags"))][:2]
    return " ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *said])
