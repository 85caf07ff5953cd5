"""An event loop in a thread of its own: engines are called from threads, and have many requests under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="http-engines", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end. Not to be called from the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
