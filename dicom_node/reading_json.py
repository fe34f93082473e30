"""A Reading as JSON text and back: the form in which the result row keeps it."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import StorageError
from inference.reading import Reading


@cache
def _adapter() -> TypeAdapter[Reading]:
    return TypeAdapter(Reading)


def to_json(reading: Reading) -> str:
    return _adapter().dump_json(reading).decode()


def from_json(text: str) -> Reading:
    """Raises StorageError where the text is not a Reading of this version."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise StorageError(f"a stored reading cannot be read back: {error.error_count()} faults") from error
