"""Which presentation contexts are accepted: verification, every storage SOP class, in every transfer syntax.

The storage SOP classes are taken from the dictionary of UIDs (PS3.6 A), the retired ones too: archives are full of them.
"""

from __future__ import annotations

import re

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION = "1.2.840.10008.1.1"
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


def supported_for(proposed: list[PresentationContext], extra_sop_classes: frozenset[str]) -> list[PresentationContext]:
    """What the node supports of the proposed contexts, the sender's first transfer syntax first."""
    supported: dict[str, list[str]] = {}
    for context in proposed:
        sop_class = str(context.abstract_syntax)
        if sop_class == VERIFICATION or sop_class in STORAGE_CLASSES or sop_class in extra_sop_classes:
            known = [str(syntax) for syntax in context.transfer_syntax if str(syntax) in TRANSFER_SYNTAXES]
            supported.setdefault(sop_class, []).extend(known)
    return [build_context(sop_class, list(dict.fromkeys(syntaxes))) for sop_class, syntaxes in supported.items() if syntaxes]
