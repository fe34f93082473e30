"""`wetread demo`: a real node, real C-STORE, drawn films, and what comes back of them."""

from __future__ import annotations

from pathlib import Path


def run(out: Path) -> int:
    """Run the demo into the folder ``out``, made anew. Returns 0 when everything came back as expected, else 1.

    Raises SettingsError where ``out`` cannot be used.
    """
    from dicom_node.demo.show import run as show  # imaging libraries load only here

    return show(out)
