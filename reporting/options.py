"""How documents are written: what a site may choose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from reporting.context import DocumentKind
from reporting.errors import DocumentError
from reporting.wording import Words, of

FhirStatus = Literal["partial", "registered", "preliminary"]
FhirWrite = Literal["by-id", "by-search"]
FhirVersion = Literal["R4", "R5"]
DEFAULT_KINDS: Final = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.FHIR_BUNDLE})


@dataclass(frozen=True, slots=True)
class DocumentOptions:
    """What a site may choose of its documents.

    ``fhir_status``: DiagnosticReport.status. R4 defines *preliminary* as "verified early results are available, but not all
    results are final"; nobody has verified a draft, so the default is its parent, *partial* ("data may be incomplete or
    unverified"). *registered* is for records whose consumers take *partial* for a person's work; *preliminary* for those
    that show nothing less. IHE RAD IMR knows partial and preliminary, not registered. *final* is not on offer: software never
    signs.
    ``fhir_write``: how a Bundle posted twice makes one set of resources. *by-id* (R4 3.1.0.7.1, update as create): each is
    PUT under an id derived from what it is; any number of findings fits into one transaction. *by-search* (3.1.0.8.1,
    conditional create): each is POSTed with ifNoneExist, so that a patient or imaging study which the record already holds
    under its own id is used; for records that keep their own patients, do not let clients name ids, and set no low limit on
    transactions with conditions (Medplum takes 8 entries, fewer than a catalogue's findings).
    ``fhir_version``: R4 (4.0.1), as IHE RAD IMR is defined, or the same reading in the forms of R5 (5.0.0).
    ``dicomweb_url``: where the site's archive serves studies by DICOMweb, for a record's viewer (an Endpoint, IHE RAD IMR);
    empty: not said.
    ``patient_identifier_system``, ``accession_identifier_system``: the URIs by which the record knows the site's patient
    and accession numbers; empty: a URI derived from the issuer that the images name, so that equal numbers of two issuers
    never meet.
    ``language``: of everything that the documents themselves say, as a tag of RFC 5646 (``wording.LANGUAGES``, with a country
    where numbers should follow it: es-MX). What a model wrote stays as it wrote it.
    ``kinds``: which documents are built; those that some destination takes.
    Raises DocumentError for a status, version or language that is not on offer, and for an address that is none.
    """

    software_version: str
    fhir_status: FhirStatus = "partial"
    fhir_write: FhirWrite = "by-id"
    language: str = "en"
    manufacturer: str = "WetRead"
    patient_identifier_system: str = ""
    accession_identifier_system: str = ""
    fhir_version: FhirVersion = "R4"
    dicomweb_url: str = ""
    kinds: frozenset[DocumentKind] = DEFAULT_KINDS

    def __post_init__(self) -> None:
        if self.fhir_status not in get_args(FhirStatus):
            raise DocumentError(f"fhir_status {self.fhir_status!r} is not on offer; allowed: {', '.join(get_args(FhirStatus))}")
        if self.fhir_write not in get_args(FhirWrite):
            raise DocumentError(f"fhir_write {self.fhir_write!r} is not on offer; allowed: {', '.join(get_args(FhirWrite))}")
        if self.fhir_version not in get_args(FhirVersion):
            raise DocumentError(
                f"fhir_version {self.fhir_version!r} is not on offer; allowed: {', '.join(get_args(FhirVersion))}"
            )
        if self.dicomweb_url and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", self.dicomweb_url):
            raise DocumentError(
                "dicomweb_url is no address such as https://pacs.example.org/dicom-web, without user and password"
            )
        of(self.language)
        if not self.software_version.strip() or not self.manufacturer.strip():
            raise DocumentError("software_version and manufacturer must not be empty: every document names its maker")

    @property
    def words(self) -> Words:
        """The sentences that documents are written in."""
        return of(self.language)

    @property
    def key(self) -> tuple[str, ...]:
        """What of these options changes a document's bytes."""
        systems = (self.patient_identifier_system, self.accession_identifier_system, self.fhir_version, self.dicomweb_url)
        return (self.software_version, self.fhir_status, self.fhir_write, self.language, self.manufacturer, *systems)
