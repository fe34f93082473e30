"""Archives that we ask for studies, and peers that may ask us: the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dicom_node.destination_settings import AeTitle, HttpUrl, TlsSettings
from dicom_node.frozen import Frozen


class FindArchive(Frozen):
    """``retrieve``: C-MOVE to our listener, or C-GET. ``move_to``: our AE title as the archive knows it; None: our own."""

    kind: Literal["dicom"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    calling_ae_title: AeTitle = "WETREAD"
    timeout_s: float = Field(10, gt=0)
    tls: TlsSettings | None = None
    root: Literal["study", "patient"] = "study"
    retrieve: Literal["move", "get"] = "move"
    move_to: AeTitle | None = None


class QidoArchive(Frozen):
    kind: Literal["dicomweb"]
    url: HttpUrl
    token_file: Path | None = None
    basic_file: Path | None = None
    tls: TlsSettings = TlsSettings()
    timeout_s: float = Field(10, gt=0)


Archive = Annotated[FindArchive | QidoArchive, Field(discriminator="kind")]


class QueryingPeer(Frozen):
    """What one peer may ask of us; it must be on the listener's allow-list too. ``move_to``: the AE titles it may send to."""

    ae_title: AeTitle
    find: bool = False
    get: bool = False
    move_to: tuple[AeTitle, ...] = ()
    commitment: bool = False


class PeerAddress(Frozen):
    """Where an AE title is called by us: to send what a peer moved there, and to report storage commitment."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_s: float = Field(30, gt=0)
    tls: TlsSettings | None = None


class QuerySettings(Frozen):
    """``peers``: who may ask. ``addresses``: AE titles that we call. ``most``: matches of one query."""

    peers: tuple[QueryingPeer, ...] = ()
    addresses: dict[AeTitle, PeerAddress] = Field(default_factory=dict)
    most: int = Field(1000, ge=1, le=100_000)
    poll_seconds: float = Field(1, gt=0)
    report_hours: float = Field(72, gt=0)

    @field_validator("peers")
    @classmethod
    def _each_once(cls, value: tuple[QueryingPeer, ...]) -> tuple[QueryingPeer, ...]:
        titles = [one.ae_title for one in value]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"peer {title!r} is named twice")
        return value

    @model_validator(mode="after")
    def _addresses_known(self) -> QuerySettings:
        for one in self.peers:
            for title in (*one.move_to, *((one.ae_title,) if one.commitment else ())):
                if title not in self.addresses:
                    raise ValueError(f"peer {one.ae_title!r} needs the address of {title!r}; add it to `addresses`")
        return self

    @property
    def searched(self) -> bool:
        """Whether a peer may ask what is here."""
        return any(one.find or one.get or one.move_to for one in self.peers)
