"""What is done to our FHIR Bundle to plant a fault in it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Json = dict[str, Any]
Change = Callable[[Json], object]


def entry(bundle: Json, kind: str, number: int = 0) -> Json:
    return [one for one in bundle["entry"] if one["resource"]["resourceType"] == kind][number]


def res(bundle: Json, kind: str, number: int = 0) -> Json:
    """The resource of this type, counted from 0."""
    return entry(bundle, kind, number)["resource"]


def put(kind: str, number: int = 0, **values: object) -> Change:
    """Set elements of one resource; the value None removes the element."""

    def change(bundle: Json) -> None:
        resource = res(bundle, kind, number)
        resource.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del resource[name]

    return change


def below(kind: str, *path: str | int, number: int = 0, **values: object) -> Change:
    """The same for the element at ``path``."""

    def change(bundle: Json) -> None:
        held = res(bundle, kind, number)
        for step in path:
            held = held[step]
        held.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del held[name]

    return change


def without(kind: str) -> Change:
    """Take the resource out of the Bundle; what refers to it dangles."""
    return lambda b: b["entry"].remove(entry(b, kind))


def number_as_text(b: Json) -> None:
    part = res(b, "Observation")["component"][0]["valueQuantity"]
    part["value"] = str(part["value"])


def answer_repeated(b: Json) -> None:
    """The question itself as one of its own components: obs-7."""
    observation = res(b, "Observation")
    observation["component"][0]["code"] = deepcopy(observation["code"])


def two_reports(b: Json) -> None:
    other = deepcopy(entry(b, "DiagnosticReport"))
    name = "11111111-2222-4333-8444-555555555555"
    other["fullUrl"], other["resource"]["id"] = f"urn:uuid:{name}", name
    other["request"] = {"method": "PUT", "url": f"DiagnosticReport/{name}"}
    b["entry"].append(other)
    res(b, "Provenance")["target"].append({"reference": other["fullUrl"], "type": "DiagnosticReport"})


def turned(b: Json) -> None:
    """Present, yet interpreted as negative."""
    res(b, "Observation")["interpretation"][0]["coding"][0]["code"] = "NEG"


def contained(b: Json) -> None:
    report = res(b, "DiagnosticReport")
    report["contained"] = [{"resourceType": "Organization", "id": "o", "name": "Somewhere"}]
    report["performer"] = [{"reference": "#o", "type": "Organization"}]


def unused_contained(b: Json) -> None:
    res(b, "DiagnosticReport")["contained"] = [{"resourceType": "Organization", "id": "o", "name": "Somewhere"}]


def other_page(b: Json) -> None:
    """Another page of the same length than the one that was hashed."""
    form = res(b, "DiagnosticReport")["presentedForm"][0]
    page = base64.b64decode(form["data"]).replace(b"AI", b"Al")
    form["data"] = base64.b64encode(page).decode()


def patient_as_target(b: Json) -> None:
    res(b, "Provenance")["target"] = [deepcopy(res(b, "Observation")["subject"])]


def device_of(b: Json) -> Json:
    return deepcopy(res(b, "Observation")["device"])


def author_is_nobody(b: Json) -> None:
    agents = res(b, "Provenance")["agent"]
    agents[:] = [one for one in agents if one["type"]["coding"][0]["code"] != "author"]


def author_is_the_hospital(b: Json) -> None:
    res(b, "Provenance")["agent"][0]["who"] = deepcopy(res(b, "Observation")["performer"][0])


def posted_again(kind: str) -> Change:
    return lambda b: entry(b, kind).update(request={"method": "POST", "url": kind})
