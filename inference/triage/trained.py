"""What a bundle says it was trained for: ``wetread.json``, in a bundle that knows some things only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from inference.bundles import Bundle
from inference.errors import BundleError

JUDGES: Final = "wetread.json"  # {"findings": [key, …], "kinds": [key, …]}


@dataclass(frozen=True, slots=True)
class Trained:
    """Catalogue keys of the findings and of the kinds of image a bundle was trained for.

    None: it was trained for nothing in particular and may be asked all that suits a zero-shot model.
    """

    findings: frozenset[str] | None
    kinds: frozenset[str] | None


def trained_for(bundle: Bundle) -> Trained:
    """Raises BundleError where the file is damaged. A bundle that names its findings but no kinds knows no kind."""
    if JUDGES not in dict(bundle.files):
        return Trained(None, None)
    path = bundle.path(JUDGES)
    try:
        said: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Trained(frozenset(map(str, said["findings"])), frozenset(map(str, said.get("kinds", ()))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: damaged ({error!r}); import or copy the bundle again") from error
