"""The Helm chart, rendered by Helm itself (its library, PyPI helm-python-sdk) and judged by Kubernetes' own schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node import app
from dicom_node.settings import load_settings

from .tools import DEPLOY, ask, must_parse

CHART = DEPLOY / "helm" / "wetread"
ROUTES = yaml.safe_load((DEPLOY / "compose" / "routes.yaml").read_text("utf-8"))
PEERS = {
    "pacs": {"kind": "dicom", "host": "10.1.2.3", "port": 104, "ae_title": "PACS", "commitment": True},
    "record": {"kind": "fhir", "url": "https://fhir.example.org/r4", "token_file": "/run/secrets/fhir/token"},
}
VALUES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "everything": {
        "image": {"repository": "images.example.org/wetread", "digest": f"sha256:{'a' * 64}", "pullSecrets": ["images"]},
        "config": {"listener": {"allowed": [{"ae_title": "PACS", "hosts": ["10.1.2.3"]}]}, "destinations": PEERS},
        "routes": ROUTES,
        "database": {"url": "postgresql+psycopg://wetread@db.example.org/wetread", "passwordSecret": {"name": "wetread-db"}},
        "secrets": [{"name": "fhir", "secret": "wetread-fhir"}],
        "storage": {"storageClass": "nfs", "size": "2Ti"},
        "models": {"existingClaim": "models"},
        "listen": {"replicas": 3, "service": {"loadBalancerIP": "10.1.2.4", "sourceRanges": ["10.1.0.0/16"]}},
        "work": {"replicas": 2, "gpu": {"enabled": True, "runtimeClass": "nvidia"}, "nodeSelector": {"gpu": "yes"}},
        "deliver": {"commitment": {"enabled": True}},
        "networkPolicy": {
            "dicomFrom": [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
            "webFrom": [{"namespaceSelector": {}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
        "serviceMonitor": {"enabled": True, "labels": {"team": "pacs"}, "bearerTokenSecret": {"name": "metrics"}},
    },
    "a machine that only works": {
        "listen": {"enabled": False},
        "deliver": {"enabled": False},
        "web": {"enabled": False},
        "storage": {"existingClaim": "studies"},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "a key that is none": {"listen": {"replica": 2}},
    "a port below 1024, which the user may not open": {"listen": {"port": 104}},
    "a password in the address": {"database": {"url": "postgresql+psycopg://wetread:secret@postgres/wetread"}},
    "SQLite, which no two pods may share": {"database": {"url": "sqlite:////var/lib/wetread/x.sqlite"}},
    "the database among the settings": {"config": {"database": "postgresql+psycopg://a@b/c"}},
    "the listener's port twice": {"config": {"listener": {"port": 4242}}},
    "a digest that is none": {"image": {"digest": "sha256:abc"}},
    "root": {"podSecurity": {"uid": 0}},
    "no GPU on a GPU worker": {"work": {"gpu": {"count": 0}}},
}
_RENDER = """
import json, sys
import helm_python as helm
folder, cases = json.load(sys.stdin)
answer = {"lint": helm.lint(folder), "rendered": {}, "refused": {}}
for name, values in cases.items():
    with helm.Chart.load(folder) as chart:
        try:
            chart.validate_schema(values)
            answer["rendered"][name] = chart.render(values, name="demo", namespace="radiology")
        except helm.HelmError as error:
            answer["refused"][name] = str(error)
json.dump(answer, sys.stdout)
"""
_JUDGE = """
import json, sys
import kubernetes_validate
found = {}
for name, manifest in json.load(sys.stdin):
    for version in ("1.27", "1.37"):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            found.setdefault("unknown", []).append(manifest["kind"])
        except kubernetes_validate.ValidationError as error:
            found[f"{name} {manifest['kind']} {version}"] = str(error.message)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    found = ask("helm_python", _RENDER, [str(CHART), {**VALUES, **REFUSED}])
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def manifests(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    texts = {
        name: [text for file, text in files.items() if file.endswith(".yaml")] for name, files in answer["rendered"].items()
    }
    return {name: [one for text in parts for one in yaml.safe_load_all(text) if one] for name, parts in texts.items()}


def of(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def pods(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: one["spec"]["template"] for name, one in of(found, "Deployment").items()}


def test_helm_lint_finds_nothing_but_a_missing_icon(answer: dict[str, Any]) -> None:
    assert answer["lint"]["errors"] == []
    assert [one["error"] for one in answer["lint"]["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_cannot_work_are_refused(answer: dict[str, Any], name: str) -> None:
    assert name in answer["refused"]


def test_the_others_are_rendered(answer: dict[str, Any]) -> None:
    assert set(answer["rendered"]) == set(VALUES), answer["refused"]


def test_kubernetes_takes_every_manifest(manifests: dict[str, list[dict[str, Any]]]) -> None:
    found = ask("kubernetes_validate", _JUDGE, [(name, one) for name, parts in manifests.items() for one in parts])
    assert set(found.pop("unknown")) == {"ServiceMonitor"}  # Prometheus' own kind
    assert found == {}


def test_kubernetes_schemas_refuse_a_fault(manifests: dict[str, list[dict[str, Any]]]) -> None:
    broken = copy.deepcopy(next(one for one in manifests["everything"] if one["kind"] == "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    assert len(ask("kubernetes_validate", _JUDGE, [("broken", broken)])) == 2


@pytest.mark.parametrize("name", VALUES)
def test_pods_meet_the_restricted_standard(manifests: dict[str, list[dict[str, Any]]], name: str) -> None:
    """Pod Security Standards, profile restricted; and the root file system is read-only."""
    for template in pods(manifests[name]).values():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert all({"persistentVolumeClaim", "configMap", "secret", "emptyDir"} & set(volume) for volume in spec["volumes"])
        for container in spec["containers"]:
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", VALUES)
def test_pods_run_our_commands_and_are_bounded(manifests: dict[str, list[dict[str, Any]]], name: str) -> None:
    for template in pods(manifests[name]).values():
        (container,) = template["spec"]["containers"]
        must_parse(container["args"])
        probe = container["readinessProbe"]
        if "exec" in probe:
            assert probe["exec"]["command"][0] == "wetread"
            must_parse(probe["exec"]["command"][1:])
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


@pytest.mark.parametrize("name", VALUES)
def test_no_probe_that_asks_the_database_restarts_a_pod(manifests: dict[str, list[dict[str, Any]]], name: str) -> None:
    for template in pods(manifests[name]).values():
        (container,) = template["spec"]["containers"]
        for probe in ("livenessProbe", "startupProbe"):
            assert "exec" not in container.get(probe, {})
            assert container.get(probe, {}).get("httpGet", {}).get("path", "/livez") == "/livez"


@pytest.mark.parametrize("name", VALUES)
def test_the_pages_are_reached_while_another_part_is_missing(manifests: dict[str, list[dict[str, Any]]], name: str) -> None:
    """A pod that is not ready is taken out of its service: with /readyz, just when the administrator must look."""
    probes = [template["spec"]["containers"][0]["readinessProbe"] for template in pods(manifests[name]).values()]
    assert {probe["httpGet"]["path"] for probe in probes if "httpGet" in probe} <= {"/livez"}


@pytest.mark.parametrize("name", VALUES)
def test_services_budgets_and_policies_find_their_pods(manifests: dict[str, list[dict[str, Any]]], name: str) -> None:
    found = manifests[name]
    labels = {key: template["metadata"]["labels"] for key, template in pods(found).items()}
    for one in found:
        selector = {"Service": "selector", "PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}.get(one["kind"])
        if selector is None:
            continue
        wanted = one["spec"][selector]
        chosen = [key for key, has in labels.items() if wanted.get("matchLabels", wanted).items() <= has.items()]
        assert chosen, one["metadata"]["name"]
        for port in one["spec"].get("ports", []):
            (container,) = pods(found)[chosen[0]]["spec"]["containers"]
            assert port["targetPort"] in {own["name"] for own in container["ports"]}


@pytest.mark.parametrize("name", VALUES)
def test_the_settings_can_be_loaded(manifests: dict[str, list[dict[str, Any]]], name: str, tmp_path: Path) -> None:
    (settings,) = of(manifests[name], "ConfigMap").values()
    for file, text in settings["data"].items():
        (tmp_path / file).write_text(text, "utf-8")
    loaded = load_settings(tmp_path / "node.yaml")
    app.routes_of(loaded)
    assert str(loaded.data) == "/var/lib/wetread"
    for template in pods(manifests[name]).values():
        for port in template["spec"]["containers"][0].get("ports", []):
            own = {"dicom": loaded.listener.port, "commitment": loaded.commitment.port, "web": loaded.web.port}
            assert port["containerPort"] == own[port["name"]]


def test_secrets_come_by_reference(manifests: dict[str, list[dict[str, Any]]]) -> None:
    found = manifests["everything"]
    assert of(found, "Secret") == {}
    loaded = yaml.safe_load(next(iter(of(found, "ConfigMap").values()))["data"]["node.yaml"])
    assert loaded["database_password_file"] == "/run/secrets/database/password"
    (template,) = {json.dumps(one["spec"]["volumes"][-2:]) for one in pods(found).values()}
    assert [one["secret"]["secretName"] for one in json.loads(template)] == ["wetread-db", "wetread-fhir"]


def test_a_gpu_worker_asks_for_its_gpu(manifests: dict[str, list[dict[str, Any]]]) -> None:
    spec = pods(manifests["everything"])["demo-wetread-work"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert (spec["runtimeClassName"], spec["nodeSelector"]) == ("nvidia", {"gpu": "yes"})


def test_images_survive_the_end_of_the_release(manifests: dict[str, list[dict[str, Any]]]) -> None:
    (claim,) = of(manifests["as shipped"], "PersistentVolumeClaim").values()
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert of(manifests["a machine that only works"], "PersistentVolumeClaim") == {}
