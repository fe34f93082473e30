"""How one frame is to be shown, beyond what its file says."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.pixels.rules import NamedWindow


@dataclass(frozen=True, slots=True)
class Look:
    """``window``: in place of the file's own. ``only_regions``: outside of an ultrasound image's 2D regions all is black.

    ``fast``: large frames are shown at a part of their resolution, where that changes no more than a model can see.
    ``function``: of ``window`` (PS3.3 C.11.2.1.2, C.11.2.1.3).
    """

    window: NamedWindow | None = None
    only_regions: bool = False
    fast: bool = False
    function: str = "LINEAR"


AS_STORED = Look()
