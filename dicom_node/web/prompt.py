"""Connections that must come to the point.

uvicorn waits for ever for the first byte of a connection and for the rest of a request that has begun. As many silent peers as
it serves at once would shut everybody out, and whoever asks `/livez` would take the node for dead.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S: Final = 20.0
_INCOMPLETE: Final = (h11.IDLE, h11.SEND_BODY)


class PromptProtocol(H11Protocol):
    """Closes the connection of a request that is not there whole, headers and body, within ``request_s`` seconds."""

    request_s = REQUEST_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in _INCOMPLETE:
            self._expect()
        else:
            self._expect_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """More bytes gain nobody more time."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_s, self.transport.close)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
