"""A real MLLP server, of the package `hl7`, for tests of what we send."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import hl7
from hl7.mllp import start_hl7_server


class Receiver:
    """An MLLP server of the package `hl7` on a thread of its own; keeps what it got."""

    def __init__(self, code: str, context: ssl.SSLContext | None = None, encoding: str = "utf-8") -> None:
        self.got: list[hl7.Message] = []
        self._code, self._context, self._encoding = code, context, encoding
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Receiver:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            start_hl7_server(self._serve, host="127.0.0.1", port=0, encoding=self._encoding, ssl=self._context)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())

    async def _serve(self, reader: Any, writer: Any) -> None:
        try:
            while not writer.is_closing():
                message = await reader.readmessage()
                self.got.append(message)
                writer.writemessage(message.create_ack(self._code))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
