"""How many sessions a server takes, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from live.stages import StageBusy, StageError
from live.wire.messages import BadMessage

Context = grpc.aio.ServicerContext[Any, Any]
"""Of a call; its messages are the servicer's own."""


class Sessions:
    """Those of one server, bounded. While it drains, nobody is admitted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0
        self.draining = False

    @asynccontextmanager
    async def admit(self, context: Context) -> AsyncIterator[None]:
        """One session. Ends the call where there is no room, or where the stage raises an error."""
        if self.draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this server is about to stop")
        if self.count >= self._limit:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"all {self._limit} sessions are taken")
        self.count += 1
        try:
            yield
        except BadMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except StageBusy as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except StageError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        finally:
            self.count -= 1
