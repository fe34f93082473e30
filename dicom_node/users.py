"""`wetread users`: the users file, changed by hand on the node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings
from dicom_node.web.accounts import (
    NAME,
    SHORTEST_PASSWORD,
    Accounts,
    Role,
    new_key,
    new_user,
    read_accounts,
    write_accounts,
)


def set_user(config: Path, name: str, role: str, password: str) -> str:
    """Returns what was done. Raises SettingsError."""
    file, accounts = _open(config)
    _check_name(name)
    if len(password) < SHORTEST_PASSWORD:
        raise SettingsError(f"the password is too short; at least {SHORTEST_PASSWORD} characters (NIST SP 800-63B)")
    chosen = _role(role, Role.VIEWER, Role.OPERATOR)
    write_accounts(file, Accounts({**accounts.users, name: new_user(chosen, password)}, accounts.keys))
    return f"{name} has the role {chosen.value} in {file}"


def make_key(config: Path, name: str, role: str) -> str:
    """Returns the key, which is kept nowhere. Raises SettingsError."""
    file, accounts = _open(config)
    _check_name(name)
    text, key = new_key(_role(role, *Role))
    write_accounts(file, Accounts(accounts.users, {**accounts.keys, name: key}))
    return text


def remove(config: Path, name: str) -> str:
    """Raises SettingsError where there is nobody of that name."""
    file, accounts = _open(config)
    if name not in accounts.users and name not in accounts.keys:
        raise SettingsError(f"{file}: there is no {name!r}")
    users = {one: user for one, user in accounts.users.items() if one != name}
    write_accounts(file, Accounts(users, {one: key for one, key in accounts.keys.items() if one != name}))
    return f"{name} is gone from {file}"


def listed(config: Path) -> Iterator[str]:
    """A line for each. Raises SettingsError."""
    _, accounts = _open(config)
    for name, user in sorted(accounts.users.items()):
        yield f"{name}: {user.role.value}, password"
    for name, key in sorted(accounts.keys.items()):
        yield f"{name}: {key.role.value}, key"


def read_password(file: Path) -> str:
    """The first line. Raises SettingsError."""
    try:
        return file.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: the password cannot be read ({type(error).__name__})") from None


def _open(config: Path) -> tuple[Path, Accounts]:
    settings = load_settings(config)
    if settings.web.users_file is None:
        raise SettingsError(
            f"{config}: key 'web.users_file' names no file; name one, such as `web: {{users_file: users.yaml}}`"
        )
    file = settings.path(settings.web.users_file)
    return file, read_accounts(file) if file.exists() else Accounts()


def _check_name(name: str) -> None:
    if re.fullmatch(NAME, name) is None:
        raise SettingsError(f"{name!r} is no name; use letters, digits, . _ @ and -, at most 64")


def _role(text: str, *allowed: Role) -> Role:
    if text.lower() not in {role.value for role in allowed}:
        raise SettingsError(f"--role {text!r}: allowed: {', '.join(role.value for role in allowed)}")
    return Role(text.lower())
