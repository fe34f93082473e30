"""When a study is complete: the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dicom_node.destination_settings import AeTitle, HttpUrl, TlsSettings
from dicom_node.frozen import Frozen
from dicom_node.routing import Conditions


class FindArchive(Frozen):
    kind: Literal["dicom"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    calling_ae_title: AeTitle = "WETREAD"
    timeout_s: float = Field(10, gt=0)
    tls: TlsSettings | None = None


class QidoArchive(Frozen):
    kind: Literal["dicomweb"]
    url: HttpUrl
    token_file: Path | None = None
    basic_file: Path | None = None
    tls: TlsSettings = TlsSettings()
    timeout_s: float = Field(10, gt=0)


class RequiredSeries(Frozen):
    """A series that must be there, with so many instances. ``when``: conditions on the series, as those of a route."""

    when: Conditions = Conditions()
    instances: int = Field(1, ge=1)


class StudyRule(Frozen):
    """For studies of which ``when`` holds. What is left out is as for all studies."""

    when: Conditions
    quiet_seconds: float | None = Field(None, ge=0)
    ask: bool | None = None
    required_series: tuple[RequiredSeries, ...] = ()


class StudySettings(Frozen):
    """``archive``: who is asked how many instances a study has; None: nobody."""

    quiet_seconds: float = Field(10, ge=0)
    settle_seconds: float = Field(1, ge=0)
    archive: Annotated[FindArchive | QidoArchive, Field(discriminator="kind")] | None = None
    rules: tuple[StudyRule, ...] = ()
