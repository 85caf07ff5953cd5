"""The threads in which engines work for all sessions of a process, the urgent first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any, TypeVar

T = TypeVar("T")


class Urgency(IntEnum):
    FINAL = 0
    PARTIAL = 1


class EnginePool:
    """Runs calls in threads, in the order of their urgency, then of their coming. For one event loop."""

    def __init__(self, threads: int) -> None:
        self._waiting: asyncio.PriorityQueue[tuple[int, int, Callable[[], Any], asyncio.Future[Any]]] = (
            asyncio.PriorityQueue()
        )
        self._order = itertools.count()
        self._threads = ThreadPoolExecutor(threads, "live-engine")
        self._count = threads
        self._workers: list[asyncio.Task[None]] = []

    async def run(self, urgency: Urgency, call: Callable[[], T]) -> T:
        """What the call returns. Not run at all if the caller is cancelled while it waits."""
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(self._count)]
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((urgency, next(self._order), call, done))
        return await done

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            _, _, call, done = await self._waiting.get()
            if done.cancelled():
                continue
            try:
                result = await loop.run_in_executor(self._threads, call)
            except Exception as error:  # noqa: BLE001  (it is the caller's)
                if not done.cancelled():
                    done.set_exception(error)
            else:
                if not done.cancelled():
                    done.set_result(result)
