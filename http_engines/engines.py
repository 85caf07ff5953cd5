"""The engines of the operators' file, as it is now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import httpx

from http_engines.background import Background
from http_engines.endpoints import WHISPER, EndpointsFile, LanguageModel, RemoteAligner, RemoteModel, Server
from http_engines.engine import HttpAligner, HttpEngine
from http_engines.language_model import HttpLanguageModel
from http_engines.pool import Pool
from speech.engines import Aligner, EngineUnavailable

THREADS = 8
"""Encode audio and time words. Most of an aligner's time is spent outside of Python, or waiting."""


class RemoteEngines:
    """Engines are made on first use, and again when what the file says of them changes. Thread-safe."""

    def __init__(self, file: EndpointsFile, whisper: Callable[[], Aligner]) -> None:
        """``whisper`` loads the aligner of that name, once it is needed; it may raise EngineUnavailable."""
        self.file = file
        self._whisper = whisper
        self._lock = threading.Lock()
        self._made: dict[str, tuple[tuple[Server, ...], HttpEngine]] = {}
        self._readers: dict[LanguageModel, HttpLanguageModel] = {}
        self._pools: dict[Server, Pool] = {}

    def names(self, role: str) -> list[str]:
        """Of the models for draft or refine, in their order of preference."""
        return [model.name for model in self.file.current.serving(role)]

    def engine(self, name: str) -> HttpEngine:
        """Raises EngineUnavailable for a name that the file does not have, or no longer has."""
        endpoints = self.file.current
        model = endpoints.find(name)
        if model is None:
            raise EngineUnavailable(
                f"There is no model {name!r} behind HTTP; LONGHAND_ENDPOINTS does not name it."
            )
        servers = (model, *(aligner for aligner in endpoints.aligner if aligner.name in model.aligners))
        with self._lock:
            made, engine = self._made.get(name, ((), None))
            if engine is None or made != servers:
                engine = self._make(model, {server.name: server for server in servers})
                self._made[name] = (servers, engine)
            return engine

    def language_model(self, name: str | None) -> HttpLanguageModel:
        """The one of this name, or the first. Raises EngineUnavailable for one that the file does not have."""
        model = self.file.current.reader(name)
        if model is None:
            what = "no language model" if name is None else f"no language model {name!r}"
            raise EngineUnavailable(f"There is {what}; LONGHAND_ENDPOINTS does not name it.")
        with self._lock:
            if model not in self._readers:
                pool = self._pool(model, model.patience)
                self._readers[model] = HttpLanguageModel(model, pool, self._background)
            return self._readers[model]

    def _make(self, model: RemoteModel, servers: dict[str, Server]) -> HttpEngine:
        load: dict[str, Callable[[], Aligner]] = {WHISPER: self._whisper}
        for name, server in servers.items():
            if isinstance(server, RemoteAligner):
                aligner = HttpAligner(server, self._pool(server), self._background)
                load[name] = partial(_given, aligner)
        chosen = [load[name] for name in model.aligners]
        pool = self._pool(model, model.patience)
        return HttpEngine(model, pool, chosen, self._background, self._threads)

    def _pool(self, server: Server, patience: float = 0.0) -> Pool:
        if server not in self._pools:
            self._pools[server] = Pool(server, self._client, patience=patience)
        return self._pools[server]

    @cached_property
    def _background(self) -> Background:
        return Background()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, "http-engines")

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """Of all hosts; how many requests are under way is bounded by each model's ``concurrency``."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30)
        return httpx.AsyncClient(limits=limits, follow_redirects=False)


def _given(aligner: Aligner) -> Aligner:
    return aligner
