"""Outbox → destinations. Threads of its own for each destination, so that one which is down or slow holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from dicom_node.delivery.committing import Committer
from dicom_node.delivery.destination import Destination
from dicom_node.delivery.lane import Lane
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.errors import StorageError
from dicom_node.storage import commitments
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import JobState
from dicom_node.storage.owner import owner_alive

_log = structlog.get_logger()


class Deliverer:
    """Serves every destination until stopped."""

    def __init__(
        self, db: Database, files: FileStore, destinations: Mapping[str, Destination], policy: RetryPolicy, owner: str
    ) -> None:
        self._db, self._destinations = db, dict(destinations)
        self._policy = policy
        self.lanes = {name: Lane(db, files, name, one, policy, owner) for name, one in destinations.items()}
        self.committers = {
            name: Committer(db, name, one.commitment, policy, owner) for name, one in destinations.items() if one.commitment
        }

    def run(self, stop: threading.Event) -> None:
        self._begin()
        threads = [threading.Thread(target=target, args=(stop,), name=name, daemon=True) for name, target in self._services()]
        for thread in threads:
            thread.start()
        stop.wait()
        end = time.monotonic() + self._policy.patience_s
        for thread in threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def step(self, destination: str) -> bool:
        """One claim of one destination; False when nothing is due. Raises StorageError."""
        return self.lanes[destination].step()

    def _services(self) -> Iterator[tuple[str, Callable[[threading.Event], None]]]:
        for name, lane in self.lanes.items():
            for number in range(self._destinations[name].concurrency):
                yield f"deliver-{name}-{number}", lane.serve
        for name, committer in self.committers.items():
            yield f"commit-{name}", committer.serve

    def _begin(self) -> None:
        """What is left of an earlier run is put right; where storage cannot do it now, the leases run out by themselves."""
        try:
            commitments.release_dead_askers(self._db, owner_alive, self._db.now())
            for name, lane in self.lanes.items():
                lane.tell_state("")
                if name not in self.committers:
                    self._await_no_more(name)
        except StorageError as error:
            _log.warning("delivery begins without putting right what an earlier run left", error=str(error))

    def _await_no_more(self, name: str) -> None:
        """The operator asks this destination for commitment no more: what it has stored is delivered."""
        with self._db.write() as connection:
            for one in commitments.all_awaited(connection, name):
                commitments.settle(connection, one, JobState.DONE, "", self._db.now())
