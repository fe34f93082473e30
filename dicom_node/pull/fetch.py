"""Fetching the studies of a list, one after the other, each to its end before it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dicom_node.archives import Archive
from dicom_node.errors import PeerRefused, PeerUnavailable, StorageBusy
from dicom_node.pull.pace import Pace
from dicom_node.pull.progress import Entry, PullList, State
from dicom_node.remote.retrieving import Retrieved

_TRIES: Final = 3  # of one study in one run
_FIRST_WAIT_S: Final = 5.0
_SETTLE_S: Final = 5.0  # what an archive calls sent has been answered by us, and is here; a database may be slow


class Target(Protocol):
    """Where studies go."""

    def archive(self, study_uid: str) -> Archive:
        """The archive, set up so that what it sends of this study comes here."""
        ...

    def count(self, study_uid: str) -> int:
        """How many instances of a study are here."""
        ...


@dataclass(frozen=True, slots=True)
class Fetcher:
    """``tell``: is told of each study, in a plain sentence without patient data."""

    target: Target
    pace: Pace
    tell: Callable[[str], None]
    first_wait_s: float = _FIRST_WAIT_S

    def run(self, studies: PullList, stop: threading.Event) -> None:
        """Fetch what is unfinished, until done or stopped; the list always says how it stands."""
        for entry in studies.unfinished():
            if self._is_here(entry):
                studies.note(replace(entry, state=State.HERE, stored=self.target.count(entry.study_uid), reason=""))
                continue
            if not self.pace.wait(stop, self.tell):
                return
            ended = self._fetch(entry, stop)
            studies.note(ended)
            self.tell(
                f"{ended.study_uid}: {ended.state}, {ended.stored} of {ended.expected or '?'} instances {ended.reason}".rstrip()
            )

    def _is_here(self, entry: Entry) -> bool:
        return 0 < entry.expected <= self.target.count(entry.study_uid)

    def _fetch(self, entry: Entry, stop: threading.Event) -> Entry:
        """Try until it is whole; an archive that refuses is asked once."""
        for attempt in range(_TRIES):
            if attempt and stop.wait(self.first_wait_s * 4 ** (attempt - 1)):
                break
            entry = replace(entry, tries=entry.tries + 1)
            try:
                told = self.target.archive(entry.study_uid).retrieve(entry.study_uid, stop)
            except PeerRefused as error:
                return self._judged(entry, Retrieved(), str(error))
            except (PeerUnavailable, StorageBusy) as error:
                entry = self._judged(entry, Retrieved(), str(error))
            else:
                entry = self._judged(entry, told, _why(told))
            if entry.state is State.DONE:
                break
        return entry

    def _judged(self, entry: Entry, told: Retrieved, reason: str) -> Entry:
        """What is here decides, whatever the archive says."""
        stored = self._settled(entry, told)
        whole = stored >= entry.expected if entry.expected else told.stored > 0 and not told.failed and stored > 0
        if whole:
            return replace(entry, state=State.DONE, stored=stored, reason="")
        why = reason or "the archive says that it sent all, but not all came"
        return replace(entry, state=State.PARTIAL if stored else State.FAILED, stored=stored, reason=why)

    def _settled(self, entry: Entry, told: Retrieved) -> int:
        wanted, end = entry.expected or told.stored, time.monotonic() + _SETTLE_S
        while (held := self.target.count(entry.study_uid)) < min(wanted, told.stored) and time.monotonic() < end:
            time.sleep(0.05)
        return held


def _why(told: Retrieved) -> str:
    return f"{told.failed} failed at the archive" if told.failed else ""
