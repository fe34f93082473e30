"""What the pages stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from dicom_node.routing import Names, Routes
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.web.accounts import AccountsFile


@dataclass(frozen=True, slots=True)
class Parts:
    """``routes``: those in force. ``names``: what routes may name. ``accounts``: None where only this machine may look."""

    settings: Settings
    db: Database
    files: FileStore
    routes: Callable[[], Routes]
    names: Names
    accounts: AccountsFile | None


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts
