"""The audit trail: the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dicom_node.destination_settings import TlsSettings
from dicom_node.frozen import Frozen


class AuditRepository(Frozen):
    """``kind``: how syslog is carried: tls (RFC 5425, ITI-20), tcp (RFC 6587), udp (RFC 5426), or into a file."""

    kind: Literal["tls", "tcp", "udp", "file"] = "tls"
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    tls: TlsSettings = TlsSettings()
    path: Path | None = None
    timeout_s: float = Field(10, gt=0)

    @model_validator(mode="after")
    def _somewhere(self) -> AuditRepository:
        if self.kind == "file" and self.path is None:
            raise ValueError("a repository of kind file needs a path")
        if self.kind != "file" and not self.host:
            raise ValueError(f"a repository of kind {self.kind} needs a host")
        return self


class AuditSettings(Frozen):
    """``repository``: None keeps no audit trail. ``patient``: how patients are named in it."""

    repository: AuditRepository | None = None
    patient: Literal["id", "pseudonym"] = "id"
    source_id: str = Field("", max_length=64)
    site_id: str = Field("", max_length=64)
