"""Which of the archive's studies are priors of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from dicom_node.ingest.receive import valid_uid
from dicom_node.remote.matches import Found, Level, Match, Query
from dicom_node.routing import PriorsWish
from dicom_node.storage.priors import Prior
from dicom_node.worker.earlier import earlier_time

_MOST: Final = 200  # studies of a patient that are looked at
_LOOKED_INTO: Final = 4  # times the wanted count: candidates whose series are asked for
_YEAR: Final = 365.25
_TOLD: Final = (
    "StudyDate", "StudyTime", "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "IssuerOfPatientID", "PatientBirthDate",
)  # fmt: skip
Ask = Callable[[Query], Found]


@dataclass(frozen=True, slots=True)
class Subject:
    """The study that priors are wanted for. ``issuer``: of the patient's ID. ``day``, ``clock``: of the study. "": not told."""

    study_uid: str
    patient_id: str
    issuer: str
    day: date
    modalities: frozenset[str]
    body_parts: frozenset[str]
    birth_date: str = ""
    clock: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prior, and how many instances the archive has of it; 0: not told."""

    prior: Prior
    expected: int


def choose(subject: Subject, wish: PriorsWish, ask: Ask) -> tuple[Candidate, ...]:
    """The newest ``wish.count``. Raises PeerUnavailable, PeerRefused; ValueError where the patient has no ID."""
    if not subject.patient_id.strip("* ?"):
        raise ValueError("the study names no patient by an ID")
    since = subject.day - timedelta(days=round(wish.years * _YEAR))
    keys = {**dict.fromkeys(_TOLD, ""), "PatientID": subject.patient_id, "StudyDate": f"{since:%Y%m%d}-{subject.day:%Y%m%d}"}
    found = [one for one in ask(Query(Level.STUDY, keys, _MOST)).matches if _is_prior(one, subject, since, wish)]
    newest = sorted(found, key=lambda one: (one["StudyDate"], one["StudyTime"], one["StudyInstanceUID"]), reverse=True)
    chosen = [one for one in newest[: wish.count * _LOOKED_INTO] if _shows_the_same(one, subject, wish, ask)]
    return tuple(_candidate(one) for one in chosen[: wish.count])


def _is_prior(one: Match, subject: Subject, since: date, wish: PriorsWish) -> bool:
    """An archive may match more than it was asked for; another patient's study must never be taken for a prior.

    A study of the same day is one where both tell their time and its is the earlier: else it may be the later one, or on its
    way here to be read and delivered itself.
    """
    if one["PatientID"].strip() != subject.patient_id or one["StudyInstanceUID"] == subject.study_uid:
        return False
    same = (("IssuerOfPatientID", subject.issuer), ("PatientBirthDate", subject.birth_date))
    if any(ours and one[keyword] and one[keyword].strip() != ours for keyword, ours in same):
        return False
    if not valid_uid(one["StudyInstanceUID"]) or not f"{since:%Y%m%d}" <= one["StudyDate"] <= f"{subject.day:%Y%m%d}":
        return False
    if one["StudyDate"] == f"{subject.day:%Y%m%d}" and not earlier_time(one["StudyTime"].strip(), subject.clock):
        return False
    modalities = set(filter(None, one["ModalitiesInStudy"].split("\\")))
    return wish.modality == "any" or not modalities or bool(modalities & subject.modalities)


def _shows_the_same(one: Match, subject: Subject, wish: PriorsWish, ask: Ask) -> bool:
    """Whether a series shows a body part of the study's, or none is told anywhere."""
    if wish.body_part == "any" or not subject.body_parts:
        return True
    keys = {"StudyInstanceUID": one["StudyInstanceUID"], "BodyPartExamined": "", "Modality": ""}
    parts = set(_body_parts(ask(Query(Level.SERIES, keys, _MOST)).matches))
    return not parts or bool(parts & subject.body_parts)


def _body_parts(series: Sequence[Match]) -> Iterator[str]:
    return (one["BodyPartExamined"].upper() for one in series if one["BodyPartExamined"])


def _candidate(one: Match) -> Candidate:
    count = one["NumberOfStudyRelatedInstances"]
    return Candidate(Prior(one["StudyInstanceUID"], one["StudyDate"]), int(count) if count.isdigit() else 0)
