"""A receiver of HL7 v2 over MLLP, run as a process: `hl7_server.py PORT LOG MODE`.

A message is in LOG (a JSON line, synced) before it is acknowledged. MODE is a file; while it holds "busy" messages are answered
AR, "silent": taken and never acknowledged, "forget": acknowledged only after the connection was dropped once (kept, no answer).
"""

from __future__ import annotations

import hashlib
import json
import os
import socketserver
import sys
import time
from pathlib import Path

LOG, MODE = Path(sys.argv[2]), Path(sys.argv[3])
START, END = b"\x0b", b"\x1c\r"


class Receiver(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        held = b""
        while END not in held:
            part = self.request.recv(65536)
            if not part:
                return
            held += part
        message = held[held.index(START) + 1 : held.index(END)]
        mode = MODE.read_text().strip() if MODE.exists() else ""
        fields = message.split(b"\r", 1)[0].decode("utf-8").split("|")
        if mode == "silent":
            time.sleep(5)
            return
        if mode != "busy":
            _keep(fields[9], message)
        if mode == "forget":
            return
        code = "AR" if mode == "busy" else "AA"
        answer = f"MSH|^~\\&|RIS|HOSPITAL|||20260101||ACK^R01^ACK|A{fields[9][:18]}|P|2.5.1\rMSA|{code}|{fields[9]}\r"
        self.request.sendall(START + answer.encode() + END)


def _keep(control: str, message: bytes) -> None:
    line = {"control": control, "sha256": hashlib.sha256(message).hexdigest(), "bytes": len(message)}
    with LOG.open("a") as out:
        out.write(json.dumps(line) + "\n")
        out.flush()
        os.fsync(out.fileno())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", int(sys.argv[1])), Receiver) as server:
    print("ready", flush=True)
    server.serve_forever()
