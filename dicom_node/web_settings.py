"""The pages, health and metrics: the settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from dicom_node.frozen import Frozen


class WebTls(Frozen):
    certificate_file: Path
    key_file: Path


class WebSettings(Frozen):
    """``names``: by which names browsers may call the node, besides its address; others are refused (DNS rebinding)."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    names: tuple[str, ...] = ()
    users_file: Path | None = None
    tls: WebTls | None = None
    behind_proxy: bool = False
    session_hours: float = Field(12, gt=0, le=24 * 7)
    idle_minutes: float = Field(30, gt=0)
    dicomweb: bool = False

    @model_validator(mode="after")
    def _fit_for_its_address(self) -> WebSettings:
        """Nobody but this machine gets pages without a login, or a password in the clear."""
        if not self.local and self.users_file is None:
            raise ValueError(f"host {self.host} can be reached from other machines: name a `users_file` (`wetread users set`)")
        if self.behind_proxy and self.users_file is None:
            raise ValueError(
                "`behind_proxy` lets other machines in through the proxy: name a `users_file` (`wetread users set`)"
            )
        if not self.local and self.tls is None and not self.behind_proxy:
            raise ValueError(
                f"host {self.host} can be reached from other machines: name a certificate and its key under `tls`, or say "
                "`behind_proxy: true` where a proxy in front of it speaks TLS"
            )
        if self.dicomweb and self.users_file is None:
            raise ValueError("`dicomweb` gives images away: name a `users_file` with a key of the role dicomweb")
        return self

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def secure(self) -> bool:
        """Whether browsers speak TLS with it, or with the proxy in front."""
        return self.tls is not None or self.behind_proxy


class TracingSettings(Frozen):
    """OpenTelemetry. ``endpoint``: an OTLP/HTTP collector's address up to `/v1/traces`; empty: no tracing."""

    endpoint: str = Field("", pattern=r"^(https?://[^\s@]+)?$")
    headers_file: Path | None = None
    timeout_s: float = Field(10, gt=0)
