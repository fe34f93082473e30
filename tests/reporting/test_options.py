from dataclasses import fields

import pytest

from reporting.errors import DocumentError
from reporting.options import DocumentOptions

REFUSED = {
    "final": ({"fhir_status": "final"}, "partial, registered, preliminary"),
    "write": ({"fhir_write": "twice"}, "by-id, by-search"),
    "release": ({"fhir_version": "R6"}, "allowed: R4, R5"),
    "address": ({"dicomweb_url": "pacs/dicom-web"}, "dicomweb_url"),
    "address with a password": ({"dicomweb_url": "https://me:secret@pacs/dicom-web"}, "without user and password"),
    "language": ({"language": "fr"}, "allowed: en, de, es"),
    "manufacturer": ({"manufacturer": " "}, "manufacturer"),
    "version": ({"software_version": ""}, "software_version"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_on_offer_is_refused_with_what_is(changes: dict[str, str], said: str):
    with pytest.raises(DocumentError, match=said):
        DocumentOptions(**{"software_version": "1", **changes})  # type: ignore[arg-type]


def test_a_draft_is_partial_unless_the_site_says_otherwise():
    assert DocumentOptions("1").fhir_status == "partial"


OTHERS: dict[str, str] = {
    "software_version": "2",
    "fhir_status": "registered",
    "fhir_write": "by-search",
    "language": "de",
    "manufacturer": "Other",
    "patient_identifier_system": "urn:oid:1.2.3",
    "accession_identifier_system": "urn:oid:1.2.3",
    "fhir_version": "R5",
    "dicomweb_url": "https://pacs.example.org/dicom-web",
}


@pytest.mark.parametrize("name", [field.name for field in fields(DocumentOptions) if field.name != "kinds"])
def test_every_option_that_changes_bytes_changes_the_key(name: str):
    """The same UID over other bytes would be two objects under one name."""
    changed = DocumentOptions(**{"software_version": "1", name: OTHERS[name]})  # type: ignore[arg-type]
    assert changed.key != DocumentOptions("1").key
