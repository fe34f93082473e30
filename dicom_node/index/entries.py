"""From the attributes of files to the entries of the index, with what only the whole study tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from dicom_node.index.headers import Attributes, Described, element, values_of
from dicom_node.storage.index import InstanceEntry, SeriesEntry, Source, StudyEntry, name_key_of


@dataclass(frozen=True, slots=True)
class Entered:
    """An instance with the attributes of its series."""

    entry: InstanceEntry
    series: Attributes


def entered_of(study_uid: str, source: Source, read: Described) -> Entered:
    """The UIDs are those of the store, whatever the file says."""
    syntax = source.transfer_syntax or read.transfer_syntax
    told = {
        **read.instance,
        **dict([element("SOPInstanceUID", source.sop_uid), element("AvailableTransferSyntaxUID", syntax)]),
    }
    named = (source.sop_uid, source.series_uid, study_uid, source.sop_class_uid, syntax, source.path)
    return Entered(InstanceEntry(*named, json.dumps(told)), read.series)


def entries_of(
    study_uid: str, covered: str, study: Attributes, entered: Sequence[Entered]
) -> tuple[StudyEntry, list[SeriesEntry], list[InstanceEntry]]:
    """The entries of a study with its counts (PS3.4 C.3.4)."""
    by_series = sorted(entered, key=lambda one: one.entry.series_uid)
    series = [_series(study_uid, uid, list(of)) for uid, of in groupby(by_series, key=lambda one: one.entry.series_uid)]
    modalities = sorted({one.modality for one in series if one.modality})
    counts = [
        element("StudyInstanceUID", study_uid),
        element("ModalitiesInStudy", *modalities),
        element("SOPClassesInStudy", *_distinct(one.entry.sop_class_uid for one in entered)),
        element("NumberOfStudyRelatedSeries", len(series)),
        element("NumberOfStudyRelatedInstances", len(entered)),
    ]
    whole = {**study, **dict(counts)}
    entry = StudyEntry(
        study_uid=study_uid,
        patient_id=_first(whole, "PatientID")[:64],
        name_key=name_key_of(_first(whole, "PatientName")),
        accession_number=_first(whole, "AccessionNumber")[:64],
        study_date=_first(whole, "StudyDate")[:8],
        modalities="".join(f"\\{one}" for one in modalities)[:198] + "\\",
        attributes=json.dumps(whole),
        covered=covered,
    )
    return entry, series, [one.entry for one in entered]


def _series(study_uid: str, series_uid: str, entered: list[Entered]) -> SeriesEntry:
    own = dict([element("SeriesInstanceUID", series_uid), element("NumberOfSeriesRelatedInstances", len(entered))])
    told = {**entered[0].series, **own}
    return SeriesEntry(series_uid, study_uid, _first(told, "Modality")[:16], json.dumps(told))


def _first(attributes: Attributes, keyword: str) -> str:
    return next(iter(values_of(attributes, keyword)), "").replace("\0", "").strip()  # PostgreSQL takes none


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(set(values))
