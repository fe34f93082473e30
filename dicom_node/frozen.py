"""What all sections of the settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A section: it cannot be changed after it was read, and knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
