"""Where results go: the settings of each kind of destination. Secrets and keys are never settings, but files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from dicom_node.frozen import Frozen

DicomDocument = Literal["findings-sr", "draft-sr", "text-sr", "heat-map", "heat-map-gsps", "pdf"]
DocumentName = DicomDocument | Literal["fhir-bundle", "hl7-oru"]
STUDY_UID: Final = "{study_uid}"  # where a webhook's link takes the Study Instance UID


def _ae_title(text: str) -> str:
    """PS3.5 table 6.2-1, VR AE: 1 to 16 characters of the default repertoire, no backslash or control, not only spaces."""
    text = text.strip(" ")
    if not 1 <= len(text) <= 16 or "\\" in text or not all(" " <= c <= "~" for c in text):
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash (PS3.5 VR AE)")
    return text


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Concurrency = Annotated[int, Field(ge=1, le=32)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/\S*)?$")]


class TlsSettings(Frozen):
    """Absent files mean the system's authorities and no certificate of our own."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class DicomDestination(Frozen):
    kind: Literal["dicom"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    calling_ae_title: AeTitle = "WETREAD"
    timeout_s: float = Field(30, gt=0)
    tls: TlsSettings | None = None
    commitment: bool = False
    commitment_timeout_s: float = Field(3600, gt=0)
    concurrency: Concurrency = 1
    batch: int = Field(16, ge=1, le=128)
    documents: tuple[DicomDocument, ...] = ("findings-sr", "draft-sr")


class FhirDestination(Frozen):
    kind: Literal["fhir"]
    url: HttpUrl
    token_file: Path | None = None
    basic_file: Path | None = None
    tls: TlsSettings = TlsSettings()
    timeout_s: float = Field(30, gt=0)
    confirm: bool = False
    concurrency: Concurrency = 2
    documents: tuple[Literal["fhir-bundle"], ...] = ("fhir-bundle",)

    @field_validator("basic_file")
    @classmethod
    def _one_login(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("token_file") is not None:
            raise ValueError("give either token_file or basic_file, not both")
        return value


class Hl7Destination(Frozen):
    kind: Literal["hl7"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    application: str = Field("", max_length=180, pattern=r"^[^|^~\\&\r\n]*$")
    facility: str = Field("", max_length=180, pattern=r"^[^|^~\\&\r\n]*$")
    charset: Literal["utf-8", "iso-8859-1"] = "utf-8"
    tls: TlsSettings | None = None
    timeout_s: float = Field(30, gt=0)
    concurrency: Concurrency = 1
    documents: tuple[Literal["hl7-oru"], ...] = ("hl7-oru",)


class FolderDestination(Frozen):
    kind: Literal["folder"]
    path: Path
    concurrency: Concurrency = 1
    documents: tuple[DocumentName, ...] = ("findings-sr", "draft-sr", "fhir-bundle")


class StowDestination(Frozen):
    kind: Literal["stow"]
    url: HttpUrl
    token_file: Path | None = None
    basic_file: Path | None = None
    tls: TlsSettings = TlsSettings()
    timeout_s: float = Field(30, gt=0)
    confirm: bool = False
    concurrency: Concurrency = 1
    batch: int = Field(16, ge=1, le=128)
    documents: tuple[DicomDocument, ...] = ("findings-sr", "draft-sr")

    @field_validator("basic_file")
    @classmethod
    def _one_login(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("token_file") is not None:
            raise ValueError("give either token_file or basic_file, not both")
        return value


class WebhookDestination(Frozen):
    """``study``: whether the Study Instance UID is told, or only its keyed digest. ``links`` may hold ``{study_uid}``."""

    kind: Literal["webhook"]
    url: HttpUrl
    secret_file: Path
    study: Literal["digest", "uid"] = "digest"
    links: dict[str, str] = Field(default_factory=dict)
    tls: TlsSettings = TlsSettings()
    timeout_s: float = Field(30, gt=0)
    concurrency: Concurrency = 1
    documents: tuple[Literal["findings-sr"], ...] = ("findings-sr",)

    @field_validator("links")
    @classmethod
    def _no_uid_by_the_back_door(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if info.data.get("study") != "uid" and any(STUDY_UID in link for link in value.values()):
            raise ValueError("a link with {study_uid} tells the UID; set `study: uid`, or leave it out")
        return value


class FsspecDestination(Frozen):
    kind: Literal["fsspec"]
    url: str = Field(pattern=r"^[a-z][a-z0-9+.-]*://[^\s@]*$")
    options_file: Path | None = None
    timeout_s: float = Field(60, gt=0)
    concurrency: Concurrency = 2
    documents: tuple[DocumentName, ...] = ("findings-sr", "draft-sr", "fhir-bundle")


Destination = Annotated[
    DicomDestination
    | FhirDestination
    | Hl7Destination
    | FolderDestination
    | StowDestination
    | WebhookDestination
    | FsspecDestination,
    Field(discriminator="kind"),
]


def kind_names() -> tuple[str, ...]:
    """The kinds of destination there are."""
    kinds = get_args(get_args(Destination)[0])
    return tuple(name for kind in kinds for name in get_args(kind.model_fields["kind"].annotation))
