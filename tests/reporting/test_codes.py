"""The table of codes against pydicom's dictionaries, which were made from the standard and not by us."""

import pytest
from pydicom import __dicom_version__
from pydicom.sr._concepts_dict import concepts

from inference.reading import Code, Decision, Urgency
from reporting import codes
from reporting.wording import LANGUAGES

KNOWN = {
    (scheme, value): {meaning for meanings in by_keyword.values() for v, (meaning, _) in meanings.items() if v == value}
    for scheme, by_keyword in concepts.items()
    for held in by_keyword.values()
    for value in held
    if any((code.scheme, code.value) == (scheme, value) for code in codes.all_codes())
}
NOT_IN_PYDICOM = {"C0034375", "en", "de", "es"}  # UMLS and RFC 5646 are not among its schemes


def test_every_code_stands_once_with_one_meaning():
    pairs = [(code.scheme, code.value) for code in codes.all_codes()]
    assert len(pairs) > 60
    assert len(pairs) == len(set(pairs))


def test_every_scheme_is_known():
    assert {code.scheme for code in codes.all_codes()} <= set(codes.SCHEMES)


@pytest.mark.parametrize("code", codes.all_codes(), ids=lambda code: f"{code.scheme}-{code.value}")
def test_code_is_what_the_standard_says(code: Code):
    if code.scheme == codes.PRIVATE_SCHEME or code.value in NOT_IN_PYDICOM:
        assert (code.scheme, code.value) not in KNOWN
        return
    assert code.meaning in {meaning.removesuffix(" (attribute)") for meaning in KNOWN[code.scheme, code.value]}


@pytest.mark.parametrize("code", codes.all_codes(), ids=lambda code: code.value)
def test_code_fits_its_value_representations(code: Code):
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.scheme) <= 16
    assert 0 < len(code.meaning) <= 64


def test_each_answer_and_urgency_has_a_code_of_its_own():
    assert len({codes.PRESENCE_OF[decision] for decision in Decision}) == 3
    assert len({codes.URGENCY_OF[urgency] for urgency in Urgency}) == 3


def test_modality_codes_are_the_defined_terms():
    assert all(term == code.value for term, code in codes.MODALITIES.items())


@pytest.mark.parametrize(
    ("designator", "uid"),
    [("DCM", "1.2.840.10008.2.16.4"), ("SCT", "2.16.840.1.113883.6.96"), ("UCUM", "2.16.840.1.113883.6.8")],
)
def test_scheme_uids_of_ps3_16_table_8_1(designator: str, uid: str):
    assert codes.SCHEMES[designator].uid == uid


def test_the_version_named_is_the_one_compared_with():
    """The meanings above are those of this edition of PS3.16; another one needs another look."""
    assert codes.SCHEMES["DCM"].version == __dicom_version__
    assert codes.SCHEMES[codes.PRIVATE_SCHEME].version


def test_languages_are_those_that_documents_speak():
    assert set(codes.LANGUAGES) == set(LANGUAGES)
    assert codes.language("es") is codes.LANGUAGES["es"]
    assert codes.language("es-MX") == Code("es-MX", "RFC5646", "Spanish (MX)")
