"""Destinations that are real processes and may be killed, lose what they took, refuse, fall silent, and come back."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..outbox import Archive
from ..peers import FhirServer
from ..processes import Running, free_port, wait_for
from .wire import Wire

HERE: Final = Path(__file__).parent
ANSWER_S: Final = 2.0  # how long the node waits for an answer of a destination

# lose: say "stored" and drop the object. full: fail while storing, which is answered 0xA700, out of resources
_LUA: Final = """
function mode()
  local file = io.open("%s", "r")
  if file == nil then return "" end
  local text = file:read("*a")
  file:close()
  return text
end
function OnStoredInstance(instanceId, tags, metadata)
  if mode() == "lose" then Delete(instanceId) end
end
function ReceivedInstanceFilter(dicom, origin, info)
  if mode() == "full" then error("no room") end
  return true
end
"""


class Peer:
    """One destination: a process behind a cable. ``mode`` makes it misbehave; "" ends that."""

    def __init__(self, name: str, folder: Path, port: int, begin: Callable[[], Running]) -> None:
        self.name, self.folder, self._begin = name, folder, begin
        self.wire = Wire(port)
        self._mode = folder / "mode"
        self._running: Running | None = None

    def start(self) -> None:
        self._running = self._begin()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self._running is not None:
            self._running.kill_session()

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.alive

    def mode(self, text: str) -> None:
        part = self._mode.with_suffix(".part")
        part.write_text(text)
        part.replace(self._mode)

    def close(self) -> None:
        self.kill()
        self.wire.close()


class Pacs(Peer):
    """Orthanc that commits itself to what it holds. ``reports_to``: AE title to the port of its commitment reports."""

    def __init__(self, folder: Path, reports_to: Mapping[str, int]) -> None:
        folder.mkdir(parents=True)
        self.orthanc = _Orthanc(folder, reports_to, _LUA % (folder / "mode"), LimitFindResults=0, StableAge=60)
        super().__init__("pacs", folder, self.orthanc.dicom_port, self._started)

    def _started(self) -> Running:
        self.orthanc.start()
        return self.orthanc.running

    def setting(self, title: str) -> dict[str, Any]:
        """The destination as the node's settings name it. ``title``: our calling AE title, to which reports come back."""
        return {
            "kind": "dicom", "host": "127.0.0.1", "port": self.wire.port, "ae_title": self.orthanc.ae_title,
            "calling_ae_title": title, "timeout_s": ANSWER_S, "commitment": True, "commitment_timeout_s": ANSWER_S, "batch": 4,
        }  # fmt: skip


class _Orthanc(Archive):
    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running


class Record(Peer):
    """The FHIR server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.fhir = _JournalledFhir(folder)
        super().__init__("record", folder, self.fhir.port, self._started)

    def _started(self) -> Running:
        self.fhir.start()
        return self.fhir.running

    def close(self) -> None:
        super().close()
        self.fhir.stop()

    def setting(self) -> dict[str, Any]:
        return {"kind": "fhir", "url": f"http://127.0.0.1:{self.wire.port}", "timeout_s": 3 * ANSWER_S, "confirm": True}


class _JournalledFhir(FhirServer):
    def _source(self) -> Path:
        return HERE / "fhir_server.mjs"

    def _arguments(self, folder: Path) -> tuple[object, ...]:
        return folder / "journal", folder / "mode"

    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill_session()
            self._running = None
        self._script.unlink(missing_ok=True)


class Ris(Peer):
    """The HL7 receiver."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port, self.log = free_port(), folder / "messages.jsonl"
        super().__init__("ris", folder, self.port, self._started)

    def _started(self) -> Running:
        output = self.folder / "hl7.log"
        output.unlink(missing_ok=True)
        command = [sys.executable, HERE / "hl7_server.py", str(self.port), self.log, self.folder / "mode"]
        running = Running("the HL7 receiver", command, output)
        wait_for("the HL7 receiver to listen", lambda: "ready" in running.output, seconds=30)
        return running

    def setting(self) -> dict[str, Any]:
        return {"kind": "hl7", "host": "127.0.0.1", "port": self.wire.port, "timeout_s": ANSWER_S}

    def messages(self) -> dict[str, Counter[str]]:
        """By control ID (MSH-10): how often which bytes came."""
        found: dict[str, Counter[str]] = {}
        for text in self.log.read_text().splitlines() if self.log.exists() else []:
            line = json.loads(text)
            found.setdefault(line["control"], Counter())[line["sha256"]] += 1
        return found
