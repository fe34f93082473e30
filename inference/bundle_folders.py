"""New folders for bundles: whole, or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.bundles import MANIFEST, Bundle, open_bundle, verify_bundle
from inference.errors import BundleError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when the block ends; when it raises, nothing is left of it.

    Raises BundleError where ``out`` is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: exists already and is not empty; choose another folder or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        part = Path(temporary) / "bundle"
        part.mkdir()
        yield part
        part.replace(out)


def is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def copy_bundle(path: Path, out: Path, *, kind: str) -> Bundle:
    """Copy the bundle ``path`` to the new folder ``out``, its files checked before and after.

    Files that its manifest does not list stay behind. Raises BundleError where it is damaged or of another kind, and where
    ``out`` is in use.
    """
    bundle = open_bundle(path, kinds=[kind])
    verify_bundle(bundle)
    with new_folder(out) as part:
        for name in (MANIFEST, *(name for name, _ in bundle.files)):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / name, part / name)
        verify_bundle(open_bundle(part))
    return open_bundle(out)
