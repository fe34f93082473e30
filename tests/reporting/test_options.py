import pytest

from reporting.errors import DocumentError
from reporting.options import DocumentOptions

REFUSED = {
    "final": ({"fhir_status": "final"}, "partial, registered, preliminary"),
    "write": ({"fhir_write": "twice"}, "by-id, by-search"),
    "language": ({"language": "de"}, "allowed: en"),
    "manufacturer": ({"manufacturer": " "}, "manufacturer"),
    "version": ({"software_version": ""}, "software_version"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_on_offer_is_refused_with_what_is(changes: dict[str, str], said: str):
    with pytest.raises(DocumentError, match=said):
        DocumentOptions(**{"software_version": "1", **changes})  # type: ignore[arg-type]


def test_a_draft_is_partial_unless_the_site_says_otherwise():
    assert DocumentOptions("1").fhir_status == "partial"
