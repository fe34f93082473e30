"""Who issued the patient's and the request's numbers goes with them into every DICOM document."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from reporting.content import put
from reporting.context import DocumentKind
from reporting.documents import build_documents
from tests.reporting.samples import OPTIONS, context, header, reading

REPORT = replace(OPTIONS, kinds=frozenset({DocumentKind.FINDINGS_SR}))
WHOLE = {"UniversalEntityID": "1.2.3.4", "UniversalEntityIDType": "ISO"}


@pytest.mark.parametrize("keyword", ["IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence"])
@pytest.mark.parametrize(
    ("issuer", "wanted"),
    [
        (WHOLE, WHOLE),
        ({"LocalNamespaceEntityID": "HOSPITAL", **WHOLE}, {"LocalNamespaceEntityID": "HOSPITAL", **WHOLE}),
        ({"LocalNamespaceEntityID": "HOSPITAL", "UniversalEntityID": "1.2.3.4"}, {"LocalNamespaceEntityID": "HOSPITAL"}),
        ({"UniversalEntityIDType": "ISO"}, None),
    ],
    ids=["universal", "both", "without its type", "a type alone"],
)
def test_the_issuer_is_copied_as_far_as_it_is_whole(
    keyword: str, issuer: dict[str, str], wanted: dict[str, str] | None
) -> None:
    image = header(**{keyword: [put(Dataset(), **issuer)]})
    (document,) = build_documents(reading(), context(image), REPORT)
    ds = dcmread(BytesIO(document.content))
    assert document.faults == ()
    if wanted is None:
        assert keyword not in ds
    else:
        assert {one.keyword: str(one.value) for one in ds[keyword].value[0]} == wanted
