"""User identity (PS3.7 D.3.3.7): names and passcodes, known from a file that only the node may read.

A passcode never leaves this module: it is in no message, log or event.
"""

from __future__ import annotations

import hmac
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dicom_node.errors import SettingsError

USERNAME_AND_PASSCODE = 2  # User-Identity-Type; the others prove nothing (1) or need a service to ask (3 to 5)


@dataclass(frozen=True, slots=True)
class Passcodes:
    """Who may identify as whom."""

    _known: dict[str, str] = field(default_factory=dict, repr=False)

    def user(self, kind: int, name: bytes, passcode: bytes) -> str:
        """The user that the peer has proved to be; empty when none."""
        told = name.decode("utf-8", "replace")
        expected = self._known.get(told)
        right = hmac.compare_digest((expected or "").encode(), passcode)  # as long, whether the name is known or not
        return told if kind == USERNAME_AND_PASSCODE and expected and right else ""


def read_passcodes(file: Path) -> Passcodes:
    """A YAML file of ``name: passcode`` lines that nobody but its owner may read. Raises SettingsError."""
    try:
        with file.open(encoding="utf-8") as text:
            if os.name == "posix" and stat.S_IMODE(os.fstat(text.fileno()).st_mode) & 0o077:
                raise SettingsError(f"{file}: other users may read the passcodes; run `chmod 600` on it")
            tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: the passcodes cannot be read ({type(error).__name__})") from None
    except yaml.YAMLError:
        raise SettingsError(f"{file}: not valid YAML; write one `name: passcode` a line") from None
    if not isinstance(tree, dict) or not all(isinstance(v, str) and v and isinstance(k, str) for k, v in tree.items()):
        raise SettingsError(f"{file}: write one `name: passcode` a line, numbers in quotes, no passcode empty")
    return Passcodes(tree)
