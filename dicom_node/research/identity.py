"""What a run is made with. A run goes on only with the same: one table must not mix two models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import SettingsError
from dicom_node.research.files import RunFolder, write_whole
from inference.reading import Catalogue, HeadVersion, ModelVersion

FORM: Final = 1


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """``source``: the archive's folder. ``models``, ``heads``: as in ``Reading``. ``code``: see ``code_version``.

    ``pixels``: names options of what is read and shown, where they are not those that ship.
    """

    source: str
    reading: str
    models: tuple[ModelVersion, ...]
    catalogue: Catalogue
    code: str
    heads: tuple[HeadVersion, ...] = ()
    pixels: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The identity of a run as it stands in ``run.json``, and when it began (ISO 8601, UTC)."""

    identity: dict[str, Any]
    started: str


def begin(folder: RunFolder, identity: RunIdentity, now: str) -> Started:
    """Write ``run.json``, or compare with the one that is there.

    Raises SettingsError naming everything in which the earlier run differs.
    """
    wanted = _plain(asdict(identity))
    if not folder.identity.exists():
        write_whole(folder.identity, json.dumps({"form": FORM, "started": now, "identity": wanted}, indent=2) + "\n")
        return Started(wanted, now)
    earlier = _read(folder.identity)
    differences = list(_differences(earlier.identity, wanted))
    if differences:
        told = "".join(f"\n  {line}" for line in differences)
        raise SettingsError(
            f"{folder.root}: this run was made with something else:{told}\n"
            "Give the same again to go on with it, or name another folder with --out"
        )
    return earlier


def _read(file: Path) -> Started:
    try:
        data = json.loads(file.read_text("utf-8"))
        if data["form"] != FORM:
            raise SettingsError(f"{file}: form {data['form']!r} is not understood; name another folder with --out")
        return Started(dict(data["identity"]), str(data["started"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file}: cannot be read ({type(error).__name__}); name another folder with --out") from error


def _differences(earlier: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*earlier, *wanted)):
        before, after, name = earlier.get(key), wanted.get(key), f"{place}{key}"
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{name}.")
        elif isinstance(before, list) and isinstance(after, list):
            yield from _differences(_by_kind(before), _by_kind(after), f"{name}.")
        else:
            yield f"{name}: was {_shown(before)}, is now {_shown(after)}"


def _by_kind(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {str(model.get("kind", number)): model for number, model in enumerate(models)}


def _shown(value: Any) -> str:
    return str(value.get("name", "present")) if isinstance(value, dict) else "absent" if value is None else str(value)


def _plain(tree: Any) -> dict[str, Any]:
    """As JSON gives it back: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(tree))
    return plain
