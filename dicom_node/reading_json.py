"""A Reading, and what it is compared with, as JSON text and back: the form in which the database keeps them."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import StorageError
from inference.reading import Reading
from reporting.comparison import PriorReading


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


@cache
def _priors() -> TypeAdapter[tuple[PriorReading, ...]]:
    return TypeAdapter(tuple[PriorReading, ...])


def priors_to_json(priors: tuple[PriorReading, ...]) -> str:
    return _priors().dump_json(priors).decode()


def priors_from_json(text: str) -> tuple[PriorReading, ...]:
    """Raises StorageError where the text is not of this version."""
    try:
        return _priors().validate_json(text)
    except ValidationError as error:
        raise StorageError(f"stored priors cannot be read back: {error.error_count()} faults") from error
