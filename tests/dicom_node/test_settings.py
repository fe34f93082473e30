"""Settings: every mistake is answered with file, key and what is allowed; the documented file is the defaults."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of_tests
from hypothesis import strategies as st
from pydantic import BaseModel

from dicom_node.errors import SettingsError
from dicom_node.settings import (
    DicomDestination,
    FhirDestination,
    FolderDestination,
    FsspecDestination,
    Hl7Destination,
    Settings,
    StowDestination,
    WebhookDestination,
    defaults_folder,
    load_settings,
)
from inference.reading import UseMode

NODE_YAML = defaults_folder() / "node.yaml"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WETREAD_") and name not in ("WETREAD_GOLDEN", "WETREAD_DICOM"):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    file = folder / "node.yaml"
    file.write_text(text, "utf-8")
    return file


BAD = {
    "unknown key, near a known one": ("listner: {}", ["key 'listner' is not a setting", "Did you mean 'listener'?"]),
    "a password in the address": (
        "database: postgresql://node:s3cret@db/wetread",
        ["key 'database' holds a password", "database_password_file", "WETREAD_DATABASE"],
    ),
    "unknown key, near none": (
        "zzz: 1",
        ["key 'zzz' is not a setting", "Allowed here: data, database, database_password_file, mode"],
    ),
    "unknown key below": (
        "listener: {prot: 104}",
        ["key 'listener.prot'", "Did you mean 'port'?", "Allowed here: ae_title, host, port"],
    ),
    "unknown key of a reading": ("readings: {x: {triag: phantom}}", ["key 'readings.x.triag'", "Did you mean 'triage'?"]),
    "unknown key of a peer": (
        "listener: {allowed: [{ae_title: A, hosts: [10.0.0.1], port: 1}]}",
        ["key 'listener.allowed.0.port'", "Allowed here: ae_title, hosts"],
    ),
    "unknown key of a dicom destination": (
        "destinations: {pacs: {kind: dicom, host: h, port: 104, ae_title: A, ae_titel: B}}",
        ["key 'destinations.pacs.ae_titel'", "Did you mean 'ae_title'?"],
    ),
    "unknown key of a folder destination": (
        "destinations: {out: {kind: folder, path: x, url: y}}",
        ["key 'destinations.out.url'", "Allowed here: kind, path, concurrency, documents"],
    ),
    "required key missing": (
        "destinations: {pacs: {kind: dicom, host: h, port: 104}}",
        ["'destinations.pacs.ae_title' is required"],
    ),
    "peer without hosts": ("listener: {allowed: [{ae_title: A}]}", ["key 'listener.allowed.0.hosts' is required"]),
    "unknown kind of destination": (
        "destinations: {x: {kind: ftp}}",
        ["destinations.x", "'dicom', 'fhir', 'hl7', 'folder', 'stow'"],
    ),
    "destination without kind": ("destinations: {x: {path: y}}", ["destinations.x", "'kind'"]),
    "port too high": ("listener: {port: 70000}", ["key 'listener.port'", "less than or equal to 65535", "found 70000"]),
    "port not a number": ("listener: {port: dicom}", ["key 'listener.port'", "valid integer", "found 'dicom'"]),
    "port 0 of a peer": (
        "destinations: {p: {kind: dicom, host: h, port: 0, ae_title: A}}",
        ["key 'destinations.p.port'", "greater than or equal to 1"],
    ),
    "AE title too long": ("listener: {ae_title: SEVENTEEN_LETTERS}", ["key 'listener.ae_title'", "1 to 16 ASCII characters"]),
    "AE title of spaces": ("listener: {ae_title: '   '}", ["key 'listener.ae_title'", "1 to 16 ASCII characters"]),
    "AE title with backslash": (r"listener: {ae_title: 'A\B'}", ["key 'listener.ae_title'", "no backslash"]),
    "AE title with umlaut": ("listener: {ae_title: KÖLN}", ["key 'listener.ae_title'", "ASCII"]),
    "network that is none": (
        "listener: {allowed: [{ae_title: A, hosts: [pacs.local]}]}",
        ["key 'listener.allowed.0.hosts.0'", "IP address or network", "found 'pacs.local'"],
    ),
    "empty list of networks": ("listener: {allowed: [{ae_title: A, hosts: []}]}", ["listener.allowed.0.hosts", "at least 1"]),
    "mode": ("mode: live", ["key 'mode'", "'research', 'shadow' or 'assist'", "found 'live'"]),
    "device": ("engine: {device: gpu}", ["key 'engine.device'", "found 'gpu'"]),
    "negative wait": ("study: {quiet_seconds: -1}", ["key 'study.quiet_seconds'", "greater than or equal to 0"]),
    "lease too short to renew": ("work: {lease_seconds: 1}", ["key 'work.lease_seconds'", "greater than or equal to 5"]),
    "FHIR Bundle to a PACS": (
        "destinations: {p: {kind: dicom, host: h, port: 1, ae_title: A, documents: [fhir-bundle]}}",
        ["key 'destinations.p.documents.0'", "'findings-sr'", "found 'fhir-bundle'"],
    ),
    "delimiter in an HL7 name": (
        "destinations: {r: {kind: hl7, host: h, port: 1, application: 'R|S'}}",
        ["key 'destinations.r.application'", "should match pattern"],
    ),
    "SR to a FHIR server": (
        "destinations: {r: {kind: fhir, url: 'http://h/r4', documents: [findings-sr]}}",
        ["key 'destinations.r.documents.0'", "'fhir-bundle'"],
    ),
    "password in an address": ("destinations: {r: {kind: fhir, url: 'http://me:secret@h/r4'}}", ["key 'destinations.r.url'"]),
    "one where there may be several": (
        "listener: {allowed: [{ae_title: A, hosts: 10.0.0.1}]}",
        ["key 'listener.allowed.0.hosts': give a list, such as [10.0.0.1]"],
    ),
    "a section written twice": (
        "destinations: {}\nmode: assist\ndestinations: {}",
        ["key 'destinations' is written twice", "line 3"],
    ),
    "address without a scheme": (
        "destinations: {r: {kind: fhir, url: fhir.example.org}}",
        ["key 'destinations.r.url': give an address that begins with https:// or http:// (found 'fhir.example.org')"],
    ),
    "address that is none": ("destinations: {r: {kind: fhir, url: 'ftp://h'}}", ["key 'destinations.r.url'"]),
    "destination's name": ("destinations: {'a b': {kind: folder, path: x}}", ["'a b'", "letters, digits, - and _"]),
    "FHIR status that claims a signature": (
        "documents: {fhir_status: final}",
        ["documents.fhir_status", "'partial'", "found 'final'"],
    ),
    "station name too long": ("documents: {station_name: A_VERY_LONG_STATION}", ["documents.station_name", "at most 16"]),
    "log level": ("log: {level: loud}", ["key 'log.level'", "'debug', 'info', 'warning' or 'error'"]),
    "folder is not a setting": ("folder: /tmp", ["key 'folder' is not a setting"]),
    "a list on top": ("- a\n- b", ["top level must be keys", "found list"]),
    "a word on top": ("hello", ["top level must be keys", "found str"]),
    "not YAML": ("listener: {port: [", ["not valid YAML", "line 1"]),
    "tab for indent": ("listener:\n\tport: 1", ["not valid YAML", "line 2"]),
    "section is a number": ("listener: 5", ["key 'listener'"]),
}


@pytest.mark.parametrize(("text", "parts"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_answered_with_file_key_and_what_is_allowed(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    for part in parts:
        assert part in message
    assert "pydantic" not in message
    assert "me:secret" not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, "mode: live\nlistener: {port: -1}\nzzz: 1"))
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such settings file; start from .*node\.yaml"):
        load_settings(tmp_path / "none.yaml")


def test_a_folder_or_foreign_bytes_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "node.yaml").write_bytes(b"data: \xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "node.yaml")


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "null"], ids=["no bytes", "no keys", "a comment", "null"])
def test_an_empty_file_means_all_defaults(tmp_path: Path, text: str) -> None:
    settings = load_settings(write(tmp_path, text))
    assert settings.model_dump() == Settings().model_dump()


def test_the_documented_file_is_the_defaults() -> None:
    """What node.yaml shows as default is what the code takes, for every key at once."""
    assert load_settings(NODE_YAML).model_dump() == Settings().model_dump()


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        key = f"{prefix}{name}"
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{key}.")


def _present(tree: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _commented_above(lines: list[str], at: int) -> bool:
    """A comment directly above, or above a run of keys without comments of their own."""
    above = next(line for line in reversed(lines[:at]) if "#" in line or not line.strip() or line.rstrip().endswith(":"))
    return above.strip().startswith("#")


@pytest.mark.parametrize("key", list(_keys(Settings)))
def test_every_setting_stands_in_the_documented_file_with_a_comment(key: str) -> None:
    text = NODE_YAML.read_text("utf-8")
    assert _present(yaml.safe_load(text), key)
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if re.match(rf"\s*{key.rpartition('.')[2]}:", line))
    value = yaml.safe_load(text)
    for part in key.split("."):
        value = value[part]
    is_section = isinstance(value, dict) and value
    assert is_section or "#" in lines[at] or _commented_above(lines, at), f"{key} has no comment"


@pytest.mark.parametrize(
    "model",
    [
        DicomDestination,
        FhirDestination,
        FolderDestination,
        FsspecDestination,
        Hl7Destination,
        StowDestination,
        WebhookDestination,
    ],
)
def test_every_key_of_a_destination_is_documented(model: type[BaseModel]) -> None:
    kind = get_args(model.model_fields["kind"].annotation)[0]
    text = NODE_YAML.read_text("utf-8")
    told = " ".join(line for line in text.splitlines() if line.startswith("#"))
    part = told[told.index(f"kind {kind}") :].partition(". ")[0]
    for name in model.model_fields:
        assert name in part or name in ("kind", "documents"), f"{name} of kind {kind}"
    assert "documents" in part.lower()


def test_the_examples_in_the_comments_are_valid(tmp_path: Path) -> None:
    lines = NODE_YAML.read_text("utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line == "#   destinations:")
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("#"))
    settings = load_settings(write(tmp_path, "\n".join(line.removeprefix("# ") for line in lines[start:end])))
    assert {d.kind for d in settings.destinations.values()} == {"dicom", "fhir", "hl7", "folder", "stow", "webhook", "fsspec"}


ENVIRONMENT = {
    "a value of the top": ({"WETREAD_MODE": "shadow"}, "mode", UseMode.SHADOW),
    "a value below": ({"WETREAD_LISTENER__PORT": "104"}, "listener.port", 104),
    "one value below leaves its neighbours": ({"WETREAD_LISTENER__PORT": "104"}, "listener.ae_title", "FROM_FILE"),
    "JSON for a section": ({"WETREAD_STUDY": '{"quiet_seconds": 3}'}, "study.quiet_seconds", 3),
    "the file where no variable": ({}, "listener.port", 4242),
}


@pytest.mark.parametrize(("variables", "key", "value"), ENVIRONMENT.values(), ids=ENVIRONMENT.keys())
def test_a_variable_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str, value: object
) -> None:
    file = write(tmp_path, "listener: {port: 4242, ae_title: FROM_FILE}")
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    found: Any = load_settings(file)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


BAD_VARIABLES = {
    "out of range": ("WETREAD_LISTENER__PORT", "70000", "key 'listener.port'"),
    "JSON cut off": ("WETREAD_LISTENER__ALLOWED", "[{", "variable WETREAD_LISTENER__ALLOWED: not valid JSON"),
    "a word where JSON is due": ("WETREAD_LISTENER__ALLOWED", "me", "not valid JSON"),
    "unknown key below": ("WETREAD_LISTENER__PROT", "1", "listener.prot"),
}


@pytest.mark.parametrize(("name", "text", "part"), BAD_VARIABLES.values(), ids=BAD_VARIABLES.keys())
def test_a_bad_variable_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, part: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, ""))
    assert part in str(caught.value)


def test_settings_cannot_be_changed_after_they_were_read(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""))
    with pytest.raises(ValueError, match="frozen"):
        settings.mode = UseMode.SHADOW
    with pytest.raises(ValueError, match="frozen"):
        settings.listener.port = 1


def test_paths_start_at_the_settings_file_wherever_the_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.yaml").write_text("data: ../data")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("etc/node.yaml"))
    assert settings.data_folder == (tmp_path / "data").resolve()
    assert settings.database_url == f"sqlite:///{(tmp_path / 'data').resolve() / 'wetread.sqlite'}"
    assert settings.path("/abs") == Path("/abs")


def test_a_token_never_shows_in_a_message(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, "destinations: {r: {kind: fhir, url: 'http://h', token_file: [s3cret]}}"))
    assert "s3cret" not in str(caught.value)


@settings_of_tests(deadline=None)  # the first example may pay for imports
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda kids: st.lists(kids) | st.dictionaries(st.text(), kids)
    )
)
def test_any_tree_in_the_file_is_settings_or_a_settings_error(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump({"listener": tree, "destinations": {"x": tree}, "readings": tree}), "utf-8")
    with contextlib.suppress(SettingsError):
        load_settings(file)


@pytest.mark.parametrize("text", ["", "two\nlines\n", None], ids=["empty", "two lines", "no file"])
def test_a_password_file_must_hold_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "password").write_text(text)
    file = tmp_path / "node.yaml"
    file.write_text("database_password_file: password\n", "utf-8")
    with pytest.raises(SettingsError, match="database_password_file"):
        load_settings(file).database_password()


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    file = tmp_path / "node.yaml"
    file.write_text("database_password_file: password\n", "utf-8")
    assert load_settings(file).database_password() == "s3cret"
