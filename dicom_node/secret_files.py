"""Secrets come from files of their own or from the environment, never from the settings file, which is copied and shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import SettingsError

WHERE_PASSWORDS_GO: Final = (
    "put it into a file that `database_password_file` names, or into libpq's password file (PGPASSFILE), or give the whole "
    "address by the variable WETREAD_DATABASE"
)
_LONGEST: Final = 4096  # characters


def read_secret(key: str, file: Path) -> str:
    """The text of a secret's file without its line end. Raises SettingsError naming ``key`` and the file, never the text."""
    try:
        text = file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"key {key!r}: {file} cannot be read ({why})") from error
    if not text or "\n" in text or len(text) > _LONGEST:
        raise SettingsError(f"key {key!r}: {file} must hold the secret in one line, and nothing else")
    return text


def holds_password(address: Any) -> bool:
    """Whether a database address names a password."""
    text = str(address or "")
    return bool(re.search(r"://[^/@]*:[^/@]+@", text) or re.search(r"[?&]password=", text))
