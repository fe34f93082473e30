"""The node's settings: frozen, read once from a YAML file and ``WETREAD_*`` variables, then passed in.

Every field is documented in ``config/node.yaml``; a test checks that. A variable overrides the file: the parts of the key
are joined by two underscores, as in ``WETREAD_LISTENER__PORT=11112``.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from pydantic_settings import SettingsError as EnvironmentFault

from dicom_node.errors import SettingsError
from inference.reading import UseMode

PHANTOM: Final = "phantom"  # in place of a bundle folder: the phantom bundle that ships with the project
DicomDocument = Literal["findings-sr", "draft-sr", "text-sr", "heat-map", "heat-map-gsps", "pdf"]
DocumentName = DicomDocument | Literal["fhir-bundle", "hl7-oru"]


def _ae_title(text: str) -> str:
    """PS3.5 table 6.2-1, VR AE: 1 to 16 characters of the default repertoire, no backslash or control, not only spaces."""
    text = text.strip(" ")
    if not 1 <= len(text) <= 16 or "\\" in text or not all(" " <= c <= "~" for c in text):
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash (PS3.5 VR AE)")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ValueError("give an IP address or network, such as 10.1.2.3 or 10.1.0.0/16") from error


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AllowedPeer(_Frozen):
    ae_title: AeTitle
    hosts: tuple[Network, ...] = Field(min_length=1)


class ListenerSettings(_Frozen):
    ae_title: AeTitle = "WETREAD"
    host: str = "127.0.0.1"
    port: Port = 11112
    allowed: tuple[AllowedPeer, ...] = ()
    allow_any: bool = False
    require_called_ae: bool = True
    max_associations: int = Field(64, ge=1, le=1024)
    watermark_mb: int = Field(2048, ge=0)
    idle_timeout_s: float = Field(60, gt=0)
    extra_sop_classes: tuple[str, ...] = ()


class StudySettings(_Frozen):
    quiet_seconds: float = Field(10, ge=0)


class ReadingSettings(_Frozen):
    """Which models and catalogue make one kind of reading. Paths are relative to the settings file."""

    triage: str = PHANTOM
    drafting: str | None = PHANTOM
    catalogue: str = "chest_xray"
    calibration: str | None = None
    probe: str | None = None
    probe_role: Literal["decide", "shadow"] = "decide"
    draft_images: int | None = Field(None, ge=1)
    heat_maps: bool = True


class EngineSettings(_Frozen):
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    resizing: Literal["exact", "fast"] = "exact"


class WorkSettings(_Frozen):
    lease_seconds: float = Field(60, ge=5)
    max_attempts: int = Field(4, ge=1)
    retry_seconds: float = Field(15, gt=0)
    poll_seconds: float = Field(0.25, gt=0)


class DicomDestination(_Frozen):
    kind: Literal["dicom"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    calling_ae_title: AeTitle = "WETREAD"
    timeout_s: float = Field(30, gt=0)
    documents: tuple[DicomDocument, ...] = ("findings-sr", "draft-sr")


class FhirDestination(_Frozen):
    kind: Literal["fhir"]
    url: str = Field(pattern=r"^https?://[^\s/@]+(/\S*)?$")
    token_file: Path | None = None
    timeout_s: float = Field(30, gt=0)
    documents: tuple[Literal["fhir-bundle"], ...] = ("fhir-bundle",)


class TlsSettings(_Frozen):
    """Absent files mean the system's authorities and no certificate of our own."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class Hl7Destination(_Frozen):
    kind: Literal["hl7"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    application: str = Field("", max_length=180, pattern=r"^[^|^~\\&\r\n]*$")
    facility: str = Field("", max_length=180, pattern=r"^[^|^~\\&\r\n]*$")
    charset: Literal["utf-8", "iso-8859-1"] = "utf-8"
    tls: TlsSettings | None = None
    timeout_s: float = Field(30, gt=0)
    documents: tuple[Literal["hl7-oru"], ...] = ("hl7-oru",)


class FolderDestination(_Frozen):
    kind: Literal["folder"]
    path: Path
    documents: tuple[DocumentName, ...] = ("findings-sr", "draft-sr", "fhir-bundle")


Destination = Annotated[DicomDestination | FhirDestination | Hl7Destination | FolderDestination, Field(discriminator="kind")]


class DeliverySettings(_Frozen):
    first_retry_s: float = Field(5, gt=0)
    max_retry_s: float = Field(1800, gt=0)
    give_up_hours: float = Field(72, gt=0)
    poll_seconds: float = Field(0.25, gt=0)


class DocumentSettings(_Frozen):
    fhir_status: Literal["partial", "registered", "preliminary"] = "partial"
    institution: str = Field("", max_length=64)
    station_name: str = Field("WETREAD", max_length=16)
    fhir_write: Literal["by-id", "by-search"] = "by-id"
    patient_identifier_system: str = ""
    accession_identifier_system: str = ""


class LogSettings(_Frozen):
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
    mode: UseMode = UseMode.ASSIST
    acknowledgements: dict[str, str] = {}
    listener: ListenerSettings = ListenerSettings()
    study: StudySettings = StudySettings()
    readings: dict[str, ReadingSettings] = {"chest_xray": ReadingSettings()}
    routes: Path | None = None
    destinations: dict[str, Destination] = {}
    engine: EngineSettings = EngineSettings()
    work: WorkSettings = WorkSettings()
    delivery: DeliverySettings = DeliverySettings()
    documents: DocumentSettings = DocumentSettings()
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
        tree = yaml.safe_load(file.read_text("utf-8"))
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
    for_file = type("SettingsOfFile", (Settings,), {"_file": file, "__module__": __name__})
    try:
        settings: Settings = for_file(folder=file.resolve().parent)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(file, Settings, fault) for fault in error.errors())) from error
    except EnvironmentFault as error:
        raise SettingsError(_explain_variables()) from error
    return settings


def _explain_variables() -> str:
    """pydantic names the section only; every variable that asks for JSON and is none is named here."""
    faulty = [name for name, text in sorted(os.environ.items()) if _is_faulty_json(name, text)]
    return f"variable {', '.join(faulty) or 'WETREAD_…'}: not valid JSON, which a list or a section needs, such as '[{{…}}]'"


def _is_faulty_json(name: str, text: str) -> bool:
    if not name.upper().startswith("WETREAD_") or not text.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _explain(file: Path, model: type[BaseModel], fault: Any) -> str:
    kinds = ("dicom", "fhir", "hl7", "folder")  # pydantic's mark of which destination it took the section for
    keys = [part for part in fault["loc"] if part not in kinds or fault["loc"][:1] != ("destinations",)]
    key = ".".join(str(part) for part in keys)
    if fault["type"] == "extra_forbidden":
        allowed = _allowed_keys(model, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{file}: key {key!r} is not a setting.{hint} Allowed here: {', '.join(allowed)}"
    if fault["type"] == "missing":
        return f"{file}: key {key!r} is required"
    message = str(fault["msg"]).removeprefix("Value error, ")
    value = fault.get("input")
    shown = f" (found {value!r})" if isinstance(value, str | int | float | bool) and "token" not in key else ""
    return f"{file}: key {key!r}: {message}{shown}"


def _allowed_keys(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at ``loc``, by walking the models' fields."""
    for part in loc:
        model = _step(model, part)
        if model is None:
            return []
    return [name for name in getattr(model, "model_fields", {}) if name != "folder"]


def _step(model: Any, part: Any) -> Any:
    fields = getattr(model, "model_fields", None)
    if fields is not None:
        return fields[part].annotation if part in fields else None
    args = [arg for arg in get_args(model) if arg is not types.NoneType and arg is not Ellipsis]
    tagged = [
        m for m in _models_within(args) if "kind" in m.model_fields and part in get_args(m.model_fields["kind"].annotation)
    ]
    if tagged:
        return tagged[0]
    return args[-1] if args else None


def _models_within(args: Any) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for arg in args:
        if isinstance(arg, type) and issubclass(arg, BaseModel):
            found.append(arg)
        else:
            found.extend(_models_within(get_args(arg)))
    return found
