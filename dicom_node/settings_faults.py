"""What pydantic finds wrong with the settings, in sentences that name the file, the key and what is allowed."""

from __future__ import annotations

import difflib
import json
import os
import types
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from dicom_node.destination_settings import kind_names
from dicom_node.written import in_words


def explain_variables() -> str:
    """pydantic names the section only; every variable that asks for JSON and is none is named here."""
    faulty = [name for name, text in sorted(os.environ.items()) if _is_faulty_json(name, text)]
    return f"variable {', '.join(faulty) or 'WETREAD_…'}: not valid JSON, which a list or a section needs, such as '[{{…}}]'"


def _is_faulty_json(name: str, text: str) -> bool:
    if not name.upper().startswith("WETREAD_") or not text.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def explain(file: Path, model: type[BaseModel], fault: Any) -> str:
    # pydantic's mark of which kind of destination it took the section for is left out
    keys = [part for part in fault["loc"] if part not in kind_names() or fault["loc"][:1] != ("destinations",)]
    key = ".".join(str(part) for part in keys)
    if fault["type"] == "extra_forbidden":
        allowed = _allowed_keys(model, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{file}: key {key!r} is not a setting.{hint} Allowed here: {', '.join(allowed)}"
    if fault["type"] == "missing":
        return f"{file}: key {key!r} is required"
    message = in_words(fault)
    value = fault.get("input")
    shown = f" (found {value!r})" if isinstance(value, str | int | float | bool) and not _may_be_secret(key, value) else ""
    return f"{file}: key {key!r}: {message}{shown}"


def _may_be_secret(key: str, value: object) -> bool:
    """An address may hold a login (RFC 3986 section 3.2.1) where it should not."""
    return "token" in key or "@" in str(value)


def _allowed_keys(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at ``loc``, by walking the models' fields."""
    for part in loc:
        model = _step(model, part)
        if model is None:
            return []
    return [name for name in getattr(model, "model_fields", {}) if name != "folder"]


def _step(model: Any, part: Any) -> Any:
    fields = getattr(model, "model_fields", None)
    if fields is not None:
        return fields[part].annotation if part in fields else None
    args = [arg for arg in get_args(model) if arg is not types.NoneType and arg is not Ellipsis]
    tagged = [
        m for m in _models_within(args) if "kind" in m.model_fields and part in get_args(m.model_fields["kind"].annotation)
    ]
    if tagged:
        return tagged[0]
    return args[-1] if args else None


def _models_within(args: Any) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for arg in args:
        if isinstance(arg, type) and issubclass(arg, BaseModel):
            found.append(arg)
        else:
            found.extend(_models_within(get_args(arg)))
    return found
