"""Who may see the pages: a file of people with passwords and of programs with keys, which holds only their hashes.

Passwords: scrypt (RFC 7914) at N 2^15, r 8, p 3, as OWASP's password storage sheet advises. Keys are 256 random bits, for
which one SHA-256 is as good.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import yaml
from pydantic import Field, ValidationError

from dicom_node.errors import SettingsError
from dicom_node.frozen import Frozen

_COST, _BLOCK, _LANES = 15, 8, 3
_MEMORY: Final = 64 << 20  # bytes that OpenSSL may take; these parameters need 32 MiB
NAME: Final = r"^[A-Za-z0-9._@-]{1,64}$"
SHORTEST_PASSWORD: Final = 12


class Role(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"  # see the pages
    OPERATOR = "operator"  # also run again what was given up
    METRICS = "metrics"  # only /metrics
    DICOMWEB = "dicomweb"  # only DICOMweb, which gives images away


_GRANTS: Final[Mapping[Role, frozenset[Role]]] = {
    Role.OPERATOR: frozenset({Role.OPERATOR, Role.VIEWER, Role.METRICS}),
    Role.VIEWER: frozenset({Role.VIEWER, Role.METRICS}),
    Role.METRICS: frozenset({Role.METRICS}),
    Role.DICOMWEB: frozenset({Role.DICOMWEB}),
}


class User(Frozen):
    role: Role
    password: str = Field(pattern=r"^scrypt\$\d+\$\d+\$\d+\$[\w/+=]+\$[\w/+=]+$")

    def form_key(self, session_key: str) -> str:
        """What forms of a session carry. It changes with the password and the role, which end the session."""
        return hmac.new(session_key.encode(), f"{self.role.value} {self.password}".encode(), hashlib.sha256).hexdigest()


class Key(Frozen):
    role: Role
    key: str = Field(pattern=r"^sha256\$[0-9a-f]{64}$")


class _File(Frozen):
    users: Mapping[str, User] = Field(default_factory=dict)
    keys: Mapping[str, Key] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has proved who they are."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return role in _GRANTS[self.role]


@dataclass(frozen=True, slots=True)
class Accounts:
    """``users`` log in with a password, ``keys`` are carried by programs."""

    users: Mapping[str, User] = field(default_factory=dict, repr=False)
    keys: Mapping[str, Key] = field(default_factory=dict, repr=False)

    def login(self, name: str, password: str) -> Account | None:
        """None where the name or the password is wrong; it takes as long either way."""
        user = self.users.get(name)
        right = _matches(password, user.password if user else _nobody())
        return Account(name, user.role) if user is not None and right else None

    def holder(self, key: str) -> Account | None:
        """Whose key this is."""
        told = _digest(key)
        found = [Account(name, one.role) for name, one in self.keys.items() if hmac.compare_digest(told, one.key)]
        return found[0] if found else None


class AccountsFile:
    """The file, read anew when it changes: who is taken out of it is out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._accounts = Accounts()
        self._lock = threading.Lock()

    def current(self) -> Accounts:
        """Raises SettingsError, after which nobody gets in until it is mended."""
        with self._lock:
            try:
                status = self._path.stat()
            except OSError as error:
                raise SettingsError(f"{self._path}: the users file cannot be read ({error.strerror})") from None
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._accounts = read_accounts(self._path)
                self._seen = seen
            return self._accounts


def read_accounts(path: Path) -> Accounts:
    """A YAML file that not everybody on the machine may read. Raises SettingsError, which never quotes it."""
    try:
        with path.open(encoding="utf-8") as text:
            if os.name == "posix" and stat.S_IMODE(os.fstat(text.fileno()).st_mode) & 0o007:
                raise SettingsError(f"{path}: everybody on this machine may read it; run `chmod 600` on it")
            tree = yaml.safe_load(text)
        parsed = _File.model_validate(tree or {})
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the users file cannot be read ({type(error).__name__})") from None
    except yaml.YAMLError:
        raise SettingsError(f"{path}: not valid YAML; make it with `wetread users set`") from None
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in error.errors()}))
        raise SettingsError(f"{path}: not as `wetread users set` writes it, at {where}") from None
    return Accounts(parsed.users, parsed.keys)


def write_accounts(path: Path, accounts: Accounts) -> None:
    """For its owner only, whole or not at all; a file that is there keeps its owner, group and mode."""
    tree = {
        "users": {name: one.model_dump(mode="json") for name, one in sorted(accounts.users.items())},
        "keys": {name: one.model_dump(mode="json") for name, one in sorted(accounts.keys.items())},
    }
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            yaml.safe_dump(tree, out, sort_keys=False)
            out.flush()
            _give_as(path, out.fileno())
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"{path}: the users file cannot be written ({error.strerror})") from error


def _give_as(path: Path, descriptor: int) -> None:
    """Root may change the users of a node that runs as another user, who must be able to read them."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return
    if os.geteuid() == 0:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def new_key(role: Role) -> tuple[str, Key]:
    """A fresh key, to be shown once, and what is kept of it."""
    key = f"wr_{secrets.token_urlsafe(32)}"
    return key, Key(role=role, key=_digest(key))


def new_user(role: Role, password: str) -> User:
    salt = secrets.token_bytes(16)
    made = _scrypt(password, salt, _COST, _BLOCK, _LANES)
    parts = [str(_COST), str(_BLOCK), str(_LANES), base64.b64encode(salt).decode(), base64.b64encode(made).decode()]
    return User(role=role, password="$".join(["scrypt", *parts]))


def _matches(password: str, kept: str) -> bool:
    _, cost, block, lanes, salt, made = kept.split("$")
    told = _scrypt(password, base64.b64decode(salt), int(cost), int(block), int(lanes))
    return hmac.compare_digest(told, base64.b64decode(made))


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << cost, r=block, p=lanes, maxmem=_MEMORY, dklen=32)


def _nobody() -> str:
    """A password that nobody has, for a name that is not known."""
    empty = base64.b64encode(bytes(32)).decode()
    return f"scrypt${_COST}${_BLOCK}${_LANES}${empty}${empty}"


def _digest(key: str) -> str:
    return f"sha256${hashlib.sha256(key.encode()).hexdigest()}"
