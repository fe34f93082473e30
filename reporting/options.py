"""How documents are written: what a site may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from reporting.context import DocumentKind
from reporting.errors import DocumentError

FhirStatus = Literal["partial", "registered", "preliminary"]
FhirWrite = Literal["by-id", "by-search"]
LANGUAGES: Final = ("en",)
DEFAULT_KINDS: Final = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.FHIR_BUNDLE})


@dataclass(frozen=True, slots=True)
class DocumentOptions:
    """What a site may choose of its documents.

    ``fhir_status``: DiagnosticReport.status. R4 defines *preliminary* as "verified early results are available, but not all
    results are final"; nobody has verified a draft, so the default is its parent, *partial* ("data may be incomplete or
    unverified"). *registered* is for records whose consumers take *partial* for a person's work; *preliminary* for those
    that show nothing less. *final* is not on offer: software never signs.
    ``fhir_write``: how a Bundle posted twice makes one set of resources. *by-id* (R4 3.1.0.7.1, update as create): each is
    PUT under an id derived from what it is; any number of findings fits into one transaction. *by-search* (3.1.0.8.1,
    conditional create): each is POSTed with ifNoneExist, so that a patient or imaging study which the record already holds
    under its own id is used; for records that keep their own patients, do not let clients name ids, and set no low limit on
    transactions with conditions (Medplum takes 8 entries, fewer than a catalogue's findings).
    ``patient_identifier_system``, ``accession_identifier_system``: the URIs by which the record knows the site's patient
    and accession numbers; empty: a URI derived from the issuer that the images name, so that equal numbers of two issuers
    never meet.
    ``kinds``: which documents are built; those that some destination takes.
    Raises DocumentError for a status or language that is not on offer.
    """

    software_version: str
    fhir_status: FhirStatus = "partial"
    fhir_write: FhirWrite = "by-id"
    language: str = "en"
    manufacturer: str = "WetRead"
    patient_identifier_system: str = ""
    accession_identifier_system: str = ""
    kinds: frozenset[DocumentKind] = DEFAULT_KINDS

    def __post_init__(self) -> None:
        if self.fhir_status not in get_args(FhirStatus):
            raise DocumentError(f"fhir_status {self.fhir_status!r} is not on offer; allowed: {', '.join(get_args(FhirStatus))}")
        if self.fhir_write not in get_args(FhirWrite):
            raise DocumentError(f"fhir_write {self.fhir_write!r} is not on offer; allowed: {', '.join(get_args(FhirWrite))}")
        if self.language not in LANGUAGES:
            raise DocumentError(f"language {self.language!r} is not on offer; allowed: {', '.join(LANGUAGES)}")
        if not self.software_version.strip() or not self.manufacturer.strip():
            raise DocumentError("software_version and manufacturer must not be empty: every document names its maker")

    @property
    def key(self) -> tuple[str, ...]:
        """What of these options changes a document's bytes."""
        systems = (self.patient_identifier_system, self.accession_identifier_system)
        return (self.software_version, self.fhir_status, self.fhir_write, self.language, self.manufacturer, *systems)
