"""The conformance statement is the program's own: regenerated, and held against what is negotiated, answered and made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom.presentation import build_context

from dicom_node.ingest.contexts import supported_for
from dicom_node.ingest.services import Offer
from dicom_node.query.committing import CommitmentService
from dicom_node.query.finding import FindService
from dicom_node.query.retrieving import GetService, MoveService
from dicom_node.settings import Settings, load_settings
from dicom_node.statement import places, statement
from dicom_node.statement.tables import MADE, TABLES
from tests.reporting.dicom_faults import sound

DOCS = Path(__file__).parents[2] / "docs" / "dicom-conformance-statement.md"
TEXT = statement(Settings.model_construct())


def uids(table: str) -> list[str]:
    return re.findall(r"`([0-9.]+)`", TABLES[table](Settings.model_construct()))


def test_the_statement_in_the_docs_is_the_programs() -> None:
    assert DOCS.read_text("utf-8") == TEXT, "run: wetread conformance-statement --out docs/dicom-conformance-statement.md"


def test_every_table_has_its_place() -> None:
    assert sorted(places()) == sorted(TABLES)
    assert "{{" not in TEXT


def test_each_class_is_accepted_in_each_transfer_syntax_that_is_stated() -> None:
    classes, syntaxes = uids("storage"), uids("syntaxes")
    assert len(classes) > 150
    for sop_class in classes:
        (context,) = supported_for([build_context(sop_class, syntaxes)], Offer())
        assert [str(syntax) for syntax in context.transfer_syntax] == syntaxes, sop_class


@pytest.mark.parametrize(
    "sop_class", ["1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.3.4", "1.2.840.10008.1.3.10"]
)
def test_what_is_not_stated_as_storage_is_not_accepted(sop_class: str) -> None:
    assert sop_class not in uids("storage")
    assert supported_for([build_context(sop_class, uids("syntaxes"))], Offer()) == []


def test_the_services_stated_are_those_that_the_listener_can_offer() -> None:
    offered = {uid for service in (FindService, MoveService, GetService, CommitmentService) for uid in _classes(service)}
    stated = set(re.findall(r"`([0-9.]+)` \| SCP where", TEXT))
    assert stated == offered


def test_the_objects_stated_are_those_that_are_made() -> None:
    found = {kind: UID(document.sop_class_uid) for kind, document in sound().items() if document.sop_class_uid}
    assert found == MADE


def test_a_site_states_its_own_titles_and_ports(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("listener: {ae_title: RADIOLOGY, port: 4104, max_associations: 7}\n", "utf-8")
    own = statement(load_settings(tmp_path / "node.yaml"))
    assert "| Our AE title | `listener.ae_title` | RADIOLOGY |" in own
    assert "| `listener.port` | 4104 |" in own


def _classes(service: type) -> frozenset[str]:
    found = service.__dataclass_fields__["sop_classes"].default  # type: ignore[attr-defined]
    assert isinstance(found, frozenset)
    return found
