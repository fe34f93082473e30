"""Which presentation contexts are accepted: verification, every storage SOP class, in every transfer syntax, and services.

The storage SOP classes are taken from the dictionary of UIDs (PS3.6 A), the retired ones too: archives are full of them.
"""

from __future__ import annotations

import re

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.ingest.services import Offer

VERIFICATION = "1.2.840.10008.1.1"
ANY = "any"  # in place of a SOP class: every one that the dictionary does not know
_NOT_DATA_SETS = {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"}  # MIME, XML, Papyrus 3
_STORAGE = re.compile(r"Storage\b")
_NOT_STORAGE = re.compile(
    r"Commitment|Media|Management|Inventory|Protocol|Implant|Palette"
)  # services, and objects of no patient


def _of_type(kind: str) -> dict[str, str]:
    return {uid: name for uid, (name, of_kind, *_) in UID_dictionary.items() if of_kind == kind}


TRANSFER_SYNTAXES = frozenset(_of_type("Transfer Syntax")) - _NOT_DATA_SETS
STORAGE_CLASSES = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts) | frozenset(
    uid for uid, name in _of_type("SOP Class").items() if _STORAGE.search(name) and not _NOT_STORAGE.search(name)
)


def stores(sop_class: str, offer: Offer) -> bool:
    """Whether objects of a SOP class are stored."""
    known = sop_class in STORAGE_CLASSES or sop_class in offer.extra
    return known or (offer.any_private and sop_class not in UID_dictionary and sop_class not in offer.by_class)


def supported_for(proposed: list[PresentationContext], offer: Offer) -> list[PresentationContext]:
    """What the node supports of the proposed contexts, the sender's first transfer syntax first."""
    supported: dict[str, list[str]] = {}
    for context in proposed:
        sop_class = str(context.abstract_syntax)
        known = _syntaxes(sop_class, offer)
        fit = [str(syntax) for syntax in context.transfer_syntax if str(syntax) in known]
        if fit:
            supported.setdefault(sop_class, []).extend(fit)
    return [_context(sop_class, list(dict.fromkeys(syntaxes)), offer) for sop_class, syntaxes in supported.items()]


def _syntaxes(sop_class: str, offer: Offer) -> frozenset[str]:
    service = offer.by_class.get(sop_class)
    if service is not None:
        return frozenset(service.transfer_syntaxes)
    return TRANSFER_SYNTAXES if sop_class == VERIFICATION or stores(sop_class, offer) else frozenset()


def _context(sop_class: str, syntaxes: list[str], offer: Offer) -> PresentationContext:
    context = build_context(sop_class, syntaxes)
    if sop_class in offer.by_class or (offer.gets and sop_class != VERIFICATION):
        context.scu_role = context.scp_role = True  # whatever role the peer selects
    return context
