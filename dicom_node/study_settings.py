"""When a study is complete: the settings."""

from __future__ import annotations

from pydantic import Field

from dicom_node.frozen import Frozen
from dicom_node.peer_settings import Archive
from dicom_node.routing import Conditions


class RequiredSeries(Frozen):
    """A series that must be there, with so many instances. ``when``: conditions on the series, as those of a route."""

    when: Conditions = Conditions()
    instances: int = Field(1, ge=1)


class StudyRule(Frozen):
    """For studies of which ``when`` holds. What is left out is as for all studies."""

    when: Conditions
    quiet_seconds: float | None = Field(None, ge=0)
    ask: bool | None = None
    association_end_seconds: float | None = Field(None, ge=0)
    required_series: tuple[RequiredSeries, ...] = ()


class StudySettings(Frozen):
    """``archive``: who is asked how many instances a study has; None: nobody."""

    quiet_seconds: float = Field(10, ge=0)
    settle_seconds: float = Field(1, ge=0)
    association_end_seconds: float | None = Field(None, ge=0)
    archive: Archive | None = None
    rules: tuple[StudyRule, ...] = ()
