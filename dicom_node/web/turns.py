"""Work on pixels, in threads of its own: however many ask for pictures, pages and health are answered beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

_Made = TypeVar("_Made")
_END: Final = b""


class Turns:
    """At most ``count`` at once; the others wait, and hold no thread."""

    def __init__(self, count: int) -> None:
        self._limiter = CapacityLimiter(count)

    async def do(self, work: Callable[[], _Made]) -> _Made:
        return await to_thread.run_sync(work, limiter=self._limiter)

    async def each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """What ``pieces`` yields, none of it empty; each is made in its turn."""
        while piece := await self.do(lambda: next(pieces, _END)):
            yield piece
