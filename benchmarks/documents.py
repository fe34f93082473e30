"""What documents cost: ``python benchmarks/documents.py [--quick]``. CPU milliseconds; the last line is one JSON object.

A reading of 20 findings of one DX film, of a CT of 300 images and of one of 2,000, all of them evidence. For each document:
  build    from the study's headers already read to the finished bytes
  gate     all rules over those bytes
  headers  reading the study's headers, once for all its documents
Peers in the same run, of the same content: highdicom's Comprehensive3DSR, and fhir.resources making and validating the Bundle.
The bar: findings SR build + gate at most 60 ms, Bundle build + gate at most 10 ms, for the film and for the CT of 300.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import highdicom as hd
import numpy as np
from fhir.resources.R4B.bundle import Bundle
from pydicom import Dataset

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inference.reading import (  # noqa: E402
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    Frame,
    FrameSource,
    HeatMap,
    ModelVersion,
    Reading,
    Sentence,
    Urgency,
    UseMode,
)
from reporting.conformance import faults_of  # noqa: E402
from reporting.content import put  # noqa: E402
from reporting.context import Document, DocumentKind, StudyContext  # noqa: E402
from reporting.documents import _BUILDERS  # noqa: E402
from reporting.materials import Materials  # noqa: E402
from reporting.options import DocumentOptions  # noqa: E402
from reporting.source import read_source  # noqa: E402
from reporting.uids import ReadingKey, tracking_uid  # noqa: E402

_FINDINGS: Final = 20
_DX, _CT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2"
_STUDIES: Final = {"DX": (_DX, "DX", 1), "CT of 300": (_CT, "CT", 300), "CT of 2000": (_CT, "CT", 2000)}
_NAMES: Final = ("Pneumothorax", "Pleural effusion", "Pulmonary nodule", "Cardiomegaly")
_OPTIONS: Final = DocumentOptions("0.1.0", kinds=frozenset(DocumentKind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 30")
    rounds = 5 if parser.parse_args().quick else 30
    warnings.simplefilter("ignore")
    shown: dict[str, Any] = {name: study(name, rounds) for name in _STUDIES}
    for name, figures in shown.items():
        print(name)
        for what, figure in figures.items():
            print(f"  {what:16} {figure}")
    bars = {name: bar(figures) for name, figures in shown.items()}
    print(json.dumps({"findings": _FINDINGS, "rounds": rounds, "studies": shown, "within the bar": bars}))


def study(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each document of one study, and of the peers' for the film."""
    made = materials(*_STUDIES[name])
    context = made.source.context
    shown = {"headers": summary(measure(lambda: read_source(context, made.reading), rounds))}
    for kind, builder in _BUILDERS.items():
        documents = list(builder(made))
        build = measure(lambda builder=builder: list(builder(made)), rounds)
        gate = measure(lambda documents=documents: [faults_of(one) for one in documents], rounds)
        both = [one + other for one, other in zip(build, gate, strict=True)]
        shown[kind.value] = {**summary(build, "build_"), **summary(gate, "gate_"), **summary(both, "both_")}
    if name == "DX":
        (bundle,) = _BUILDERS[DocumentKind.FHIR_BUNDLE](made)
        shown["highdicom SR"] = summary(measure(lambda: highdicom_report(made), rounds))
        shown["fhir.resources"] = summary(measure(lambda: fhir_resources(bundle), rounds))
    return shown


def bar(figures: dict[str, dict[str, float]]) -> dict[str, bool]:
    return {
        "findings SR": figures[DocumentKind.FINDINGS_SR.value]["both_p50"] <= 60,
        "Bundle": figures[DocumentKind.FHIR_BUNDLE.value]["both_p50"] <= 10,
    }


def measure(work: Callable[[], object], rounds: int) -> list[float]:
    """CPU milliseconds of each round, after one that fills caches."""
    work()
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1000)
    return spent


def summary(spent: list[float], prefix: str = "") -> dict[str, float]:
    return {f"{prefix}p{share}": round(float(np.percentile(spent, share)), 2) for share in (50, 95)}


def materials(sop_class: str, modality: str, images: int) -> Materials:
    """One study whose headers a file would give, and a reading of its first image."""
    headers = tuple(header(sop_class, modality, number) for number in range(images))
    source = FrameSource(str(headers[0].SOPInstanceUID), sop_class, str(headers[0].SeriesInstanceUID))
    frame = Frame(np.tile(np.arange(512, dtype=np.uint8) // 2, (512, 1)), source, modality)
    context = StudyContext("1.2.3", headers, 1, datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), "d" * 64, "1.2.826.0.1.99")
    read = reading(source)
    return Materials(read_source(context, read), read, _OPTIONS, ReadingKey.of(read, context, _OPTIONS), (frame,))


def header(sop_class: str, modality: str, number: int) -> Dataset:
    return put(
        Dataset(), SOPClassUID=sop_class, SOPInstanceUID=f"1.2.3.{number // 100 + 1}.{number + 1}", Modality=modality,
        SeriesInstanceUID=f"1.2.3.{number // 100 + 1}", StudyInstanceUID="1.2.3", PatientName="Muster^Erika", PatientID="P-1",
        PatientBirthDate="19700102", PatientSex="F", StudyDate="20260304", StudyTime="0430", StudyID="S1", AccessionNumber="A7",
        Rows=512, Columns=512, PhotometricInterpretation="MONOCHROME2", BodyPartExamined="CHEST",
    )  # fmt: skip


def reading(source: FrameSource) -> Reading:
    """A third each positive, negative and not assessable; a draft of 6 sentences; a heat map."""
    triage = ModelVersion("BiomedCLIP", "biomedclip", "1.0", "a" * 64, "example/a@1", "MIT", "research", phantom=False)
    draft = DraftReport(tuple(Sentence(f"Sentence number {n} of the draft.", 0.8, source) for n in range(6)), source=source)
    grid = tuple(tuple((row * column) / 169 for column in range(14)) for row in range(14))
    heat = HeatMap("f0", source, grid, (0, 0, 512, 512), "rollout")
    drafting = replace(triage, name="BiomedGPT", kind="biomedgpt", digest="b" * 64)
    findings = tuple(finding(number, source) for number in range(_FINDINGS))
    catalogue = Catalogue("chest", "3", "c" * 64)
    return Reading(findings, draft, (triage, drafting), catalogue, UseMode.ASSIST, (source,), heat_maps=(heat,))


def finding(number: int, source: FrameSource) -> Finding:
    decision = list(Decision)[number % 3]
    open_ = decision is Decision.NOT_ASSESSABLE
    return Finding(
        f"f{number}", Code(str(36118008 + number), "SCT", f"{_NAMES[number % 4]} {number}"),
        Code("39607008", "SCT", "Lung structure"), Urgency.STAT, 0.5, decision,
        None if open_ else 0.9 - 0.04 * number, "The film is lateral" if open_ else "", None if open_ else source,
    )  # fmt: skip


def highdicom_report(made: Materials) -> bytes:
    """The same findings by highdicom: two numbers and two answers each, encoded."""
    first = made.source.first
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid="1.2.826.0.1.99", name="node")
    kind = hd.sr.CodedConcept("121007", "DCM", "Device")
    observer = hd.sr.ObserverContext(observer_type=kind, observer_identifying_attributes=device)
    groups = [_group(made, one) for one in made.reading.findings]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("43468-8", "LN", "XR unspecified body region"),
        imaging_measurements=groups,
    )
    report = hd.sr.Comprehensive3DSR(
        evidence=[_whole(first)], content=content, series_number=1, series_instance_uid="1.2.3.9", sop_instance_uid="1.2.3.9.1",
        instance_number=1, manufacturer="example",
    )  # fmt: skip
    buffer = BytesIO()
    report.save_as(buffer)
    return buffer.getvalue()


def _whole(first: Dataset) -> Dataset:
    """highdicom asks for attributes that real images may lack."""
    whole = Dataset()
    whole.update(first)
    return put(whole, ReferringPhysicianName="", StudyDescription="")


def _group(made: Materials, one: Finding) -> Any:
    unit = hd.sr.CodedConcept("%", "UCUM", "Percent")
    algorithm = hd.sr.AlgorithmIdentification("BiomedCLIP", "1.0", parameters=["sha256 " + "a" * 64])
    numbers = [("111012", "Certainty of Finding", one.probability), ("111013", "Decision threshold", one.threshold)]
    answers = [("121052", "Presence of property", "52101004", "Present"), ("121053", "Urgency", "25876001", "Urgent")]
    coded = hd.sr.CodedConcept
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid("1.2.3", one.key), identifier=one.key),
        finding_type=coded(one.code.value, "SCT", one.code.meaning),
        finding_sites=[hd.sr.FindingSite(coded("39607008", "SCT", "Lung structure"))],
        algorithm_id=algorithm,
        source_images=[hd.sr.SourceImageForMeasurementGroup(_DX, str(made.source.first.SOPInstanceUID))],
        measurements=[
            hd.sr.Measurement(name=coded(value, "DCM", name), value=100 * number, unit=unit)
            for value, name, number in numbers
            if number is not None
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(coded(value, "DCM", name), coded(said, "SCT", meaning))
            for value, name, said, meaning in answers
        ],
    )


def fhir_resources(document: Document) -> str:
    """The Bundle as its classes: made, validated and written again."""
    return str(Bundle.model_validate_json(document.content).model_dump_json())


if __name__ == "__main__":
    main()
