"""How the pictures of studies are made: what the settings choose, and what names it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from dicom_node.pixels.limits import Limits
from dicom_node.pixels.rules import DEFAULT_RULES, FrameRules


@dataclass(frozen=True, slots=True)
class PixelOptions:
    """``fast``: large frames are shown at a part of their resolution, where no window or padding depends on single pixels."""

    limits: Limits = field(default_factory=Limits)
    rules: FrameRules = DEFAULT_RULES
    fast: bool = False

    @property
    def identity(self) -> str:
        """Names what changes the pictures that are read; empty for the options as they ship."""
        if self.rules == DEFAULT_RULES and not self.fast:
            return ""
        return hashlib.sha256(repr((self.rules, self.fast)).encode()).hexdigest()
