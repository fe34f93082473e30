"""What peers may query: the attributes of studies, series and instances, as DICOM JSON (PS3.18 annex F).

Received instances that are not set aside, and our own DICOM documents that are not held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, delete, func, insert, or_, select

from dicom_node.storage.tables import documents, index_instances, index_series, index_studies, instances, studies

_AT_ONCE: Final = 500  # UIDs of one statement


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """``name_key``: see ``name_key_of``. ``modalities``: each between backslashes. ``covered``: what it was made of."""

    study_uid: str
    patient_id: str
    name_key: str
    accession_number: str
    study_date: str
    modalities: str
    attributes: str
    covered: str


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """``attributes``: DICOM JSON."""

    series_uid: str
    study_uid: str
    modality: str
    attributes: str


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """``path``: relative to the file store's root. ``attributes``: DICOM JSON."""

    sop_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    transfer_syntax: str
    path: str
    attributes: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be indexed. ``transfer_syntax``: empty where only its file meta tells."""

    sop_uid: str
    series_uid: str
    sop_class_uid: str
    transfer_syntax: str
    path: str


@dataclass(frozen=True, slots=True)
class Narrow:
    """What the database can tell apart; what it lets through may still not match. Empty: anything.

    ``name_prefix``: of ``name_key``. ``since``, ``until``: dates of the study, YYYYMMDD.
    """

    study_uids: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = ()
    patient_id: str = ""
    accession_number: str = ""
    name_prefix: str = ""
    since: str = ""
    until: str = ""
    modality_in_study: str = ""
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The attributes of one match, of its level and those above; empty below."""

    study: str
    series: str = ""
    instance: str = ""


def name_key_of(name: str) -> str:
    """A name (VR PN) as it is compared: its first component group in upper case, without delimiters at its end."""
    return name.split("=")[0].upper().rstrip("^ ")[:200]


def stale(conn: Connection, since: float, before: float) -> tuple[tuple[str, str], ...]:
    """Studies of which something came from ``since`` on and nothing after ``before``, not yet covered: UID, what to cover."""
    made = select(documents.c.study_uid).where(documents.c.created_at >= since)
    count = (
        select(func.count())
        .select_from(documents)
        .where(
            documents.c.study_uid == studies.c.study_uid,
            documents.c.sop_class_uid != "",
            documents.c.held == "",
            documents.c.purged_at.is_(None),
        )
        .scalar_subquery()
    )
    newest = select(func.max(instances.c.id)).where(instances.c.study_uid == studies.c.study_uid).scalar_subquery()
    recent = or_(studies.c.last_instance_at >= since, studies.c.study_uid.in_(made))
    query = (
        select(
            studies.c.study_uid, studies.c.instance_count, newest.label("newest"), count.label("made"), index_studies.c.covered
        )
        .select_from(studies.outerjoin(index_studies, studies.c.study_uid == index_studies.c.study_uid))
        .where(recent, studies.c.last_instance_at < before)
    )
    wanted = ((row.study_uid, f"{row.instance_count}.{row.newest or 0}+{row.made}", row.covered) for row in conn.execute(query))
    return tuple((uid, cover) for uid, cover, covered in wanted if cover != covered)


def sources(conn: Connection, study_uid: str) -> tuple[Source, ...]:
    """Every file of a study that peers may see."""
    received = select(instances).where(instances.c.study_uid == study_uid, instances.c.set_aside.is_(False))
    made = select(documents).where(
        documents.c.study_uid == study_uid,
        documents.c.sop_class_uid != "",
        documents.c.held == "",
        documents.c.purged_at.is_(None),
    )
    return (
        *(Source(r.sop_uid, r.series_uid, r.sop_class_uid, r.transfer_syntax, r.path) for r in conn.execute(received)),
        *(Source(r.uid, r.series_uid, r.sop_class_uid, "", r.path) for r in conn.execute(made)),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """An instance as it was entered. ``series``: the attributes of its series."""

    entry: InstanceEntry
    series: str


def indexed(conn: Connection, study_uid: str) -> tuple[str, dict[str, Known]]:
    """What is held of a study: its own attributes ("": none), and its instances by UID."""
    own = conn.execute(select(index_studies.c.attributes).where(index_studies.c.study_uid == study_uid)).scalar() or ""
    joined = index_instances.join(index_series, index_instances.c.series_uid == index_series.c.series_uid)
    query = select(index_instances, index_series.c.attributes.label("of_series")).select_from(joined)
    rows = conn.execute(query.where(index_instances.c.study_uid == study_uid)).mappings()
    return own, {row["sop_uid"]: _known(row) for row in rows}


def _known(row: RowMapping) -> Known:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    series = str(values.pop("of_series"))
    return Known(InstanceEntry(**values), series)


def put(conn: Connection, study: StudyEntry, series: Sequence[SeriesEntry], files: Sequence[InstanceEntry]) -> None:
    """Replace all that is held of a study."""
    forget(conn, study.study_uid)
    for uids in _slices([one.series_uid for one in series]):  # a series UID that another study used before
        conn.execute(delete(index_series).where(index_series.c.series_uid.in_(uids)))
    for uids in _slices([one.sop_uid for one in files]):
        conn.execute(delete(index_instances).where(index_instances.c.sop_uid.in_(uids)))
    conn.execute(insert(index_studies).values(**asdict(study)))
    if series:
        conn.execute(insert(index_series), [asdict(one) for one in series])
    if files:
        conn.execute(insert(index_instances), [asdict(one) for one in files])


def forget(conn: Connection, study_uid: str) -> None:
    """Peers no longer see the study; nothing else of it changes."""
    for table in (index_instances, index_series, index_studies):
        conn.execute(delete(table).where(table.c.study_uid == study_uid))


def search_studies(conn: Connection, narrow: Narrow) -> Iterator[Row]:
    """The newest first."""
    for row in _rows(conn, select(index_studies.c.attributes).where(*_of_study(narrow))):
        yield Row(row.attributes)


def search_series(conn: Connection, narrow: Narrow) -> Iterator[Row]:
    joined = index_series.join(index_studies, index_series.c.study_uid == index_studies.c.study_uid)
    columns = (index_studies.c.attributes.label("study"), index_series.c.attributes.label("series"))
    query = select(*columns).select_from(joined).where(*_of_study(narrow), *_of_series(narrow))
    for row in _rows(conn, query, index_series.c.series_uid):
        yield Row(row.study, row.series)


def search_instances(conn: Connection, narrow: Narrow) -> Iterator[Row]:
    joined = index_instances.join(index_series, index_instances.c.series_uid == index_series.c.series_uid).join(
        index_studies, index_instances.c.study_uid == index_studies.c.study_uid
    )
    columns = (
        index_studies.c.attributes.label("study"),
        index_series.c.attributes.label("series"),
        index_instances.c.attributes.label("instance"),
    )
    query = select(*columns).select_from(joined).where(*_of_study(narrow), *_of_series(narrow), *_of_instance(narrow))
    for row in _rows(conn, query, index_instances.c.series_uid, index_instances.c.sop_uid):
        yield Row(row.study, row.series, row.instance)


def files_of(conn: Connection, narrow: Narrow) -> tuple[InstanceEntry, ...]:
    """The files that ``narrow`` names by UIDs; none where it names none."""
    by_uid = (
        (index_instances.c.study_uid, narrow.study_uids),
        (index_instances.c.series_uid, narrow.series_uids),
        (index_instances.c.sop_uid, narrow.sop_uids),
    )
    where = [column.in_(uids) for column, uids in by_uid if uids]
    if not where:
        return ()
    query = select(index_instances).where(*where).order_by(index_instances.c.series_uid, index_instances.c.sop_uid)
    return tuple(InstanceEntry(**row) for row in conn.execute(query).mappings())


def _of_study(narrow: Narrow) -> Iterator[ColumnElement[bool]]:
    table = index_studies.c
    if narrow.study_uids:
        yield table.study_uid.in_(narrow.study_uids)
    for column, value in ((table.patient_id, narrow.patient_id), (table.accession_number, narrow.accession_number)):
        if value:
            yield column == value
    if narrow.name_prefix:
        yield table.name_key.startswith(narrow.name_prefix, autoescape=True)
    if narrow.since:
        yield table.study_date >= narrow.since
    if narrow.until:
        yield table.study_date <= narrow.until
    if narrow.modality_in_study:
        yield table.modalities.contains(f"\\{narrow.modality_in_study}\\", autoescape=True)


def _of_series(narrow: Narrow) -> Iterator[ColumnElement[bool]]:
    if narrow.series_uids:
        yield index_series.c.series_uid.in_(narrow.series_uids)
    if narrow.modality:
        yield index_series.c.modality == narrow.modality


def _of_instance(narrow: Narrow) -> Iterator[ColumnElement[bool]]:
    if narrow.sop_uids:
        yield index_instances.c.sop_uid.in_(narrow.sop_uids)


def _rows(conn: Connection, query: Select[Any], *then: ColumnElement[Any]) -> Iterator[Any]:
    ordered = query.order_by(index_studies.c.study_date.desc(), index_studies.c.study_uid, *then)
    return iter(conn.execution_options(yield_per=_AT_ONCE).execute(ordered))


def _slices(uids: Collection[str]) -> Iterator[list[str]]:
    held = list(uids)
    for at in range(0, len(held), _AT_ONCE):
        yield held[at : at + _AT_ONCE]
