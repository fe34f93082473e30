"""The demo's folder: made anew each time, but never over somebody's files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dicom_node.demo.collect import WANTED
from dicom_node.errors import SettingsError

MARKER: Final = ".wetread-demo"
NODE_AE: Final = "WETREAD"
SENDER_AE: Final = "WETREAD-DEMO"
_SETTINGS: Final[dict[str, Any]] = {
    "data": "node",
    "mode": "assist",
    "listener": {
        "ae_title": NODE_AE,
        "host": "127.0.0.1",
        "port": 0,
        "allowed": [{"ae_title": SENDER_AE, "hosts": ["127.0.0.1"]}],
        "watermark_mb": 64,
    },
    "study": {"quiet_seconds": 1},
    "readings": {"chest_xray": {"triage": "phantom", "drafting": "phantom", "catalogue": "chest_xray"}},
    "routes": "routes.yaml",
    "destinations": {"results": {"kind": "folder", "path": "node/delivered", "documents": [kind.value for kind in WANTED]}},
    "engine": {"device": "cpu", "threads": 1},  # quickest for models this small
    "work": {"poll_seconds": 0.1},
    "delivery": {"poll_seconds": 0.1},
    "log": {"form": "json"},
}
_ROUTES: Final[dict[str, Any]] = {
    "routes": [
        {
            "name": "chest films marked STAT",
            "when": {"modality": ["CR", "DX"], "requested_priority": ["STAT"]},
            "reading": "chest_xray",
            "priority": "STAT",
            "destinations": ["results"],
        },
        {"name": "everything else", "reading": "chest_xray", "priority": "routine", "destinations": ["results"]},
    ]
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where things of the demo lie. Results stand in ``root`` itself."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "node.yaml"

    @property
    def routes(self) -> Path:
        return self.root / "routes.yaml"

    @property
    def log(self) -> Path:
        return self.root / "node.log"

    @property
    def films(self) -> Path:
        return self.root / "films"


def make_place(out: Path) -> Place:
    """Empty ``out`` and write the node's settings into it.

    Raises SettingsError where ``out`` holds files that no demo wrote, or cannot be written.
    """
    place = Place(out.resolve())
    try:
        _clear(place.root)
        (place.root / MARKER).write_text("Made by `wetread demo`, which empties this folder when it runs again.\n", "utf-8")
        place.films.mkdir()
        place.routes.write_text(_yaml("The demo's routes. See config/routes.yaml.", _ROUTES), "utf-8")
        place.settings.write_text(_yaml("The demo's settings. See config/node.yaml for every key.", _SETTINGS), "utf-8")
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
    return place


def _clear(root: Path) -> None:
    if root.is_dir():
        entries = list(root.iterdir())
        if entries and not (root / MARKER).is_file():
            raise SettingsError(f"--out {root}: holds files that no demo wrote; name a new or empty folder")
        for entry in entries:
            _remove(entry)
    elif root.exists():
        raise SettingsError(f"--out {root}: is not a folder")
    root.mkdir(parents=True, exist_ok=True)


def _remove(entry: Path) -> None:
    """The marker goes last of all in effect: it is written again before anything else is."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    elif entry.name != MARKER:
        entry.unlink()


def _yaml(title: str, tree: dict[str, Any]) -> str:
    return f"# {title}\n" + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
