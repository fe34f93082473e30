"""A receiver of webhooks, run as a process: `hook.py LOG SECRET` prints its port and writes a line per notice.

It checks signatures by the words of the Standard Webhooks specification, and turns each id away once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOG, SECRET = Path(sys.argv[1]), sys.argv[2].encode()
seen: set[str] = set()


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        identifier, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        mac = hmac.new(SECRET, identifier.encode() + b"." + at.encode() + b"." + body, hashlib.sha256).digest()
        good = self.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
        status = 200 if identifier in seen else 503
        seen.add(identifier)
        line = {"id": identifier, "signature": "good" if good else "bad", "status": status, "body": json.loads(body)}
        with LOG.open("a") as out:
            out.write(json.dumps(line) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
print(server.server_address[1], flush=True)
server.serve_forever()
