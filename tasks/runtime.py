"""What a worker process holds open: connections, and the engines once they are loaded."""

from __future__ import annotations

import socket
import threading
from functools import cache, cached_property
from os import getpid

from db.bus import Bus
from db.session import Sessions, make_sessions
from db.settings import Settings, get_settings
from db.storage import Storage
from speech.catalogue import Catalogue
from speech.engines.base import Transcriber
from speech.engines.load import load_draft, load_refine, load_vad
from speech.engines.vad import SileroModel


class Runtime:
    """One a process. Engines load on first use (or at warm-up) and stay."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.worker = f"{socket.gethostname()}:{getpid()}"
        self._engines: dict[tuple[str, str], Transcriber] = {}
        self._loading = threading.Lock()

    @cached_property
    def sessions(self) -> Sessions:
        return make_sessions(self.settings, name="worker")

    @cached_property
    def storage(self) -> Storage:
        return Storage(self.settings)

    @cached_property
    def bus(self) -> Bus:
        return Bus(self.settings)

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.settings.models_path)

    @cached_property
    def vad(self) -> SileroModel:
        return load_vad(self.catalogue)

    def drafter(self, engine: str | None = None) -> Transcriber:
        """The draft engine of that name, or the configured one. Raises EngineUnavailable."""
        settings = self.settings
        name = engine or settings.draft_engine
        with self._loading:
            if ("draft", name) not in self._engines:
                self._engines["draft", name] = load_draft(
                    self.catalogue,
                    engine=name,
                    device="cpu",
                    compute_type="auto",
                    threads=settings.draft_thread_count,
                )
            return self._engines["draft", name]

    def refiner(self, engine: str | None = None) -> Transcriber:
        """The refine engine of that name, or the configured one. Raises EngineUnavailable."""
        settings = self.settings
        name = engine or settings.refine_engine
        with self._loading:
            if ("refine", name) not in self._engines:
                self._engines["refine", name] = load_refine(
                    self.catalogue,
                    engine=name,
                    model=settings.refine_model,
                    device=settings.device,
                    compute_type=settings.compute_type,
                    threads=settings.refine_thread_count,
                )
            return self._engines["refine", name]


@cache
def get_runtime() -> Runtime:
    return Runtime(get_settings())
