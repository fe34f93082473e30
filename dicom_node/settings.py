"""The node's settings: frozen, read once from a YAML file and ``WETREAD_*`` variables, then passed in.

Every field is documented in ``config/node.yaml``; a test checks that. A variable overrides the file: the parts of the key
are joined by two underscores, as in ``WETREAD_LISTENER__PORT=11112``.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from pydantic_settings import SettingsError as EnvironmentFault

from dicom_node.audit_settings import AuditSettings
from dicom_node.destination_settings import AeTitle as AeTitle
from dicom_node.destination_settings import Destination as Destination
from dicom_node.destination_settings import DicomDestination as DicomDestination
from dicom_node.destination_settings import FhirDestination as FhirDestination
from dicom_node.destination_settings import FolderDestination as FolderDestination
from dicom_node.destination_settings import FsspecDestination as FsspecDestination
from dicom_node.destination_settings import Hl7Destination as Hl7Destination
from dicom_node.destination_settings import StowDestination as StowDestination
from dicom_node.destination_settings import TlsSettings as TlsSettings
from dicom_node.destination_settings import WebhookDestination as WebhookDestination
from dicom_node.drift_settings import DriftSettings
from dicom_node.errors import SettingsError
from dicom_node.frozen import Frozen
from dicom_node.peer_settings import Archive as Archive
from dicom_node.peer_settings import QuerySettings
from dicom_node.retention_settings import RetentionSettings
from dicom_node.secret_files import WHERE_PASSWORDS_GO, holds_password, read_secret
from dicom_node.settings_faults import explain, explain_variables
from dicom_node.study_settings import StudySettings
from dicom_node.web_settings import TracingSettings, WebSettings
from dicom_node.work_settings import WorkSettings
from dicom_node.written import first_faults, read_yaml
from inference.reading import UseMode
from reporting import wording
from reporting.errors import DocumentError

PHANTOM: Final = "phantom"  # in place of a bundle folder: the phantom bundle that ships with the project


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ValueError("give an IP address or network, such as 10.1.2.3 or 10.1.0.0/16") from error


def _language(tag: str) -> str:
    try:
        return wording.of(tag).language
    except DocumentError as error:
        raise ValueError(str(error)) from error


Language = Annotated[str, AfterValidator(_language)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=0, le=65535)]


class AllowedPeer(Frozen):
    ae_title: AeTitle
    hosts: tuple[Network, ...] = Field(min_length=1)
    called_ae: AeTitle | None = None
    tls_subject: str = ""
    users: tuple[str, ...] = ()


class ListenerTls(Frozen):
    certificate_file: Path
    key_file: Path
    ca_file: Path | None = None


class ListenerSettings(Frozen):
    ae_title: AeTitle = "WETREAD"
    host: str = "127.0.0.1"
    port: Port = 11112
    allowed: tuple[AllowedPeer, ...] = ()
    allow_any: bool = False
    require_called_ae: bool = True
    max_associations: int = Field(64, ge=1, le=1024)
    watermark_mb: int = Field(2048, ge=0)
    idle_timeout_s: float = Field(60, gt=0)
    request_timeout_s: float = Field(30, gt=0)
    extra_sop_classes: tuple[str, ...] = ()
    tls: ListenerTls | None = None
    passcodes_file: Path | None = None
    durability: Literal["full", "off"] = "full"
    conflicts: Literal["keep-both", "newest", "refuse"] = "keep-both"
    processes: int = Field(1, ge=1, le=64)


class ReadingSettings(Frozen):
    """Which models and catalogue make one kind of reading. Paths are relative to the settings file."""

    triage: str = PHANTOM
    drafting: str | None = PHANTOM
    catalogue: str = "chest_xray"
    calibration: str | None = None
    probe: str | None = None
    probe_role: Literal["decide", "shadow"] = "decide"
    draft_images: int | None = Field(None, ge=1)
    heat_maps: bool = True


class EngineSettings(Frozen):
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    resizing: Literal["exact", "fast"] = "exact"


class PixelSettings(Frozen):
    frames: Path | None = None
    fast: bool = False
    decoders: int = Field(0, ge=0, le=64)
    decoder_memory_mb: int = Field(2048, ge=256)
    decoder_seconds: float = Field(30, gt=0)


class DeliverySettings(Frozen):
    first_retry_s: float = Field(5, gt=0)
    max_retry_s: float = Field(1800, gt=0)
    give_up_hours: float = Field(72, gt=0)
    poll_seconds: float = Field(1, gt=0)
    breaker_failures: int = Field(5, ge=1)
    breaker_longest_s: float = Field(60, gt=0)
    lease_seconds: float = Field(30, ge=2)


class CommitmentSettings(Frozen):
    """Our side of storage commitment: where peers bring their answers. An empty ``tls``: none; it needs our certificate."""

    host: str = "127.0.0.1"
    port: Port = 11113
    tls: TlsSettings | None = None
    asks: int = Field(2, ge=1)
    sends: int = Field(100, ge=1)


class DocumentSettings(Frozen):
    language: Language = "en"
    fhir_status: Literal["partial", "registered", "preliminary"] = "partial"
    institution: str = Field("", max_length=64)
    station_name: str = Field("WETREAD", max_length=16)
    fhir_write: Literal["by-id", "by-search"] = "by-id"
    fhir_version: Literal["R4", "R5"] = "R4"
    dicomweb_url: str = Field("", pattern=r"^(https?://[^\s/@]+(/\S*)?)?$")
    patient_identifier_system: str = ""
    accession_identifier_system: str = ""


class LogSettings(Frozen):
    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["console", "json"] = "console"


class Settings(BaseSettings):
    """All settings of one node. ``folder`` is where the settings file lies: relative paths start there."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="WETREAD_", env_nested_delimiter="__", nested_model_default_partial_update=True
    )
    _file: ClassVar[Path | None] = None

    data: Path = Path("wetread-data")
    database: str = ""
    database_password_file: Path | None = None
    mode: UseMode = UseMode.ASSIST
    acknowledgements: dict[str, str] = {}
    listener: ListenerSettings = ListenerSettings()
    study: StudySettings = StudySettings()
    readings: dict[str, ReadingSettings] = {"chest_xray": ReadingSettings()}
    routes: Path | None = None
    destinations: dict[str, Destination] = {}
    engine: EngineSettings = EngineSettings()
    pixels: PixelSettings = PixelSettings()
    work: WorkSettings = WorkSettings()
    delivery: DeliverySettings = DeliverySettings()
    commitment: CommitmentSettings = CommitmentSettings()
    peers: dict[str, Archive] = {}
    query: QuerySettings = QuerySettings()
    documents: DocumentSettings = DocumentSettings()
    web: WebSettings = WebSettings()
    tracing: TracingSettings = TracingSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    drift: DriftSettings = DriftSettings()
    log: LogSettings = LogSettings()
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("destinations")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
                raise ValueError(f"destination name {name!r}: use letters, digits, - and _, at most 64")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=cls._file)

    def path(self, value: Path | str) -> Path:
        """A path of the settings, made absolute from the settings file's folder."""
        return (self.folder / Path(value).expanduser()).resolve()

    @property
    def data_folder(self) -> Path:
        return self.path(self.data)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_folder / 'wetread.sqlite'}"

    def database_password(self) -> str:
        """What ``database_password_file`` holds; empty where it names none. Raises SettingsError."""
        return (
            read_secret("database_password_file", self.path(self.database_password_file)) if self.database_password_file else ""
        )


def defaults_folder() -> Path:
    """Where the documented default configuration lies: in an installed wheel, or in a checkout."""
    package = Path(__file__).parent
    installed = package / "defaults"
    return installed if installed.is_dir() else package.parent / "config"


def load_settings(file: Path) -> Settings:
    """Read and check the settings in ``file``.

    Raises SettingsError naming the file, the key and what is allowed.
    """
    try:
        tree = read_yaml(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{file}: no such settings file; start from {defaults_folder() / 'node.yaml'}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise SettingsError(f"{file}: the top level must be keys with values, such as `listener:`; found {type(tree).__name__}")
    if "folder" in (tree or {}):
        raise SettingsError(f"{file}: key 'folder' is not a setting; it is where the file lies")
    if holds_password((tree or {}).get("database")):
        raise SettingsError(f"{file}: key 'database' holds a password; {WHERE_PASSWORDS_GO}")
    for_file = type("SettingsOfFile", (Settings,), {"_file": file, "__module__": __name__})
    try:
        settings: Settings = for_file(folder=file.resolve().parent)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(file, Settings, fault) for fault in first_faults(error.errors()))) from error
    except EnvironmentFault as error:
        raise SettingsError(explain_variables()) from error
    return settings
