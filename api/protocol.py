"""HTTP/1.1 with a time limit for receiving the headers of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_protocol(head_seconds: float) -> type[H11Protocol]:
    """A protocol that closes connections whose next request's headers are not complete in time.

    uvicorn waits for ever for the first request of a connection, and for the end of half-sent headers.
    """

    class BoundedProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._await_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_timer()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            """Run the timer whenever no request is being answered."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._cancel_timer()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(head_seconds, self._close_idle)

        def _cancel_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _close_idle(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
