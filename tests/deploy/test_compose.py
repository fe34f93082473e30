"""compose.yaml: valid by the Compose Specification, closed to the outside, and about the node that we ship."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dicom_node import app
from dicom_node.settings import load_settings

from .containerfile import read
from .tools import DEPLOY, must_parse, tool

TEXT = (DEPLOY / "compose.yaml").read_text("utf-8")
TREE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = TREE["services"]
OURS = sorted(name for name, one in SERVICES.items() if "wetread:" in str(one.get("image")))


def test_it_is_valid_by_the_specification() -> None:
    schema = tool("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(TREE, json.loads(schema.read_text("utf-8")))


def test_the_schema_refuses_what_is_wrong() -> None:
    schema = json.loads((tool("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**TREE, "services": {"listen": {**SERVICES["listen"], "prots": []}}}, schema)


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    subprocess.run([tmp_path / "deploy/compose/make-secrets"], check=True, capture_output=True)
    command = [docker, "compose", "--file", tmp_path / "deploy/compose.yaml", "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_process_of_the_node_is_there() -> None:
    assert OURS == ["deliver", "listen", "web", "work", "work-gpu"]
    assert {tuple(SERVICES[name]["profiles"]) for name in ("work", "work-gpu")} == {("cpu",), ("gpu",)}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reached_from_this_machine_only_unless_the_operator_says_so(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.match(r"(127\.0\.0\.1|\$\{DICOM_BIND:-127\.0\.0\.1\}):", port), port


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_comes_back(name: str) -> None:
    one = SERVICES[name]
    assert set(one["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert one["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in one["security_opt"]
    assert one["logging"]["options"]["max-size"]
    assert "healthcheck" in one or name in ("fhir", "prometheus", "grafana")


@pytest.mark.parametrize("name", OURS)
def test_our_processes_write_nowhere_but_their_volume_and_run_our_commands(name: str) -> None:
    one = SERVICES[name]
    assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
    assert [mount for mount in one["volumes"] if not mount.endswith(":ro")] == ["data:/var/lib/wetread"]
    must_parse(one["command"])
    test = one["healthcheck"]["test"]
    if test[1] == "wetread":
        must_parse(test[2:])


def test_secrets_are_files_and_stand_nowhere_in_the_text() -> None:
    assert all(set(one) == {"file"} for one in TREE["secrets"].values())
    named = [name for one in SERVICES.values() for name in one.get("environment", {})]
    assert [name for name in named if "PASSWORD" in name and not name.endswith("FILE")] == []


def test_make_secrets_makes_what_compose_asks_for(tmp_path: Path) -> None:
    script = shutil.copy(DEPLOY / "compose" / "make-secrets", tmp_path / "make-secrets")
    for _ in range(2):
        subprocess.run([script], check=True, capture_output=True)
        made = {path.name: path.read_text("utf-8") for path in (tmp_path / "secrets").iterdir()}
    wanted = {Path(one["file"]).name for one in TREE["secrets"].values()} - {"metrics_key"}  # which `wetread users key` prints
    assert set(made) == wanted
    assert min(map(len, made.values())) >= 32
    assert (
        tmp_path / "secrets"
    ).stat().st_mode & 0o777 == 0o700  # the files are open to the containers' users, the folder to nobody
    users = json.loads(made["orthanc_users.json"])["RegisteredUsers"]
    assert len(set(users.values()) | {made["postgres_password"], made["grafana_password"]}) == 3


def test_the_files_that_it_mounts_are_there() -> None:
    assert [one["file"] for one in TREE["configs"].values() if not (DEPLOY / one["file"]).is_file()] == []


def test_the_database_has_no_way_out() -> None:
    assert TREE["networks"]["inside"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["inside"]
    assert "ports" not in SERVICES["postgres"]


def test_the_node_that_it_configures_is_a_node() -> None:
    settings = load_settings(DEPLOY / "compose" / "node.yaml")
    routes = app.routes_of(settings)
    assert {name for route in routes.routes for name in route.destinations} == set(settings.destinations)
    ports = {"listen": settings.listener.port, "deliver": settings.commitment.port, "web": settings.web.port}
    for name, port in ports.items():
        assert [text.rsplit(":", 1)[1] for text in SERVICES[name]["ports"]] == [str(port)], name


def test_orthanc_and_the_node_know_each_other() -> None:
    settings = load_settings(DEPLOY / "compose" / "node.yaml")
    orthanc = json.loads((DEPLOY / "compose" / "orthanc.json").read_text("utf-8"))
    peer = orthanc["DicomModalities"]["wetread"]
    assert (peer["AET"], peer["Host"], peer["Port"]) == (settings.listener.ae_title, "listen", settings.listener.port)
    pacs = settings.destinations["pacs"]
    assert (pacs.host, pacs.port, pacs.ae_title) == ("orthanc", orthanc["DicomPort"], orthanc["DicomAet"])  # type: ignore[union-attr]
    assert orthanc["DicomAet"] in {one.ae_title for one in settings.listener.allowed}


def test_its_build_arguments_are_arguments_of_the_containerfile() -> None:
    names = {name for stage in read()[1] for step in stage.of("ARG") for name in step.pairs}
    assert set(SERVICES["listen"]["build"]["args"]) <= names
