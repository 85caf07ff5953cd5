"""What a worker process holds open: connections, and the engines once they are loaded."""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cache, cached_property
from os import getpid
from typing import TypeVar, cast

from db.bus import Bus
from db.queue.leases import Claim
from db.session import Sessions, make_sessions
from db.settings import Settings, get_settings
from db.storage import Storage
from speech.audio.vad.combined import CombinedVad
from speech.engines import Diarizer, Embedder, EngineUnavailable, Transcriber, VoiceModel
from speech.load import (
    Engine,
    Serving,
    engine_order,
    first_available,
    load_draft,
    load_refine,
    load_segmentation,
    load_vad,
    load_voice,
)
from speech.models.catalogue import Catalogue
from speech.models.names import DiarizeEngine, DraftEngine, RefineEngine, VadEngine, VoiceEngine
from speech.speakers.diarization import ChunkDiarizer
from speech.speakers.pyannote_audio import PyannotePipeline
from tasks.training.versions import VersionCache

E = TypeVar("E", bound=Engine)
Name = TypeVar("Name", bound=StrEnum)

logger = logging.getLogger(__name__)


class HeldClaims:
    """The steps that this process holds. A process that is closing takes no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int | None, Claim] = {}
        self._stopped = False

    def __iter__(self) -> Iterator[Claim]:
        with self._lock:
            return iter(list(self._held.values()))

    def acquire(self, claim: Callable[[bool], list[Claim]]) -> list[Claim]:
        """Call ``claim``, told whether it may claim steps that have failed before.

        Of those a process holds one at a time: one that kills it takes no other with it twice.
        """
        with self._lock:
            if self._stopped:
                return []
            claims = claim(all(held.attempt == 1 for held in self._held.values()))
            self._held |= {claimed.fence: claimed for claimed in claims}
            return claims

    def release(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._held.pop(claim.fence, None)

    def stop_acquiring(self) -> None:
        with self._lock:
            self._stopped = True

    @property
    def stopped(self) -> bool:
        return self._stopped


class Runtime:
    """One a process. Engines load on first use (or at warm-up) and stay."""

    def __init__(self, settings: Settings, leave: Callable[[str], None] = logger.critical) -> None:
        """``leave`` ends the process, for the reason given, so that whoever supervises it starts another."""
        self.settings = settings
        self.shut_down = leave
        self.worker = f"{socket.gethostname()}:{getpid()}"
        self.claims = HeldClaims()
        self.max_batch_size: int | None = None
        """Most chunks in a batch, once memory has run out."""
        # by role too: names of two roles may be equal, and are then equal as keys
        self._engines: dict[tuple[type[StrEnum], str], Engine | EngineUnavailable] = {}
        self._loading = threading.RLock()

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
    def vad(self) -> VoiceModel:
        """Raises EngineUnavailable."""
        (name, *_) = engine_order(self.settings.vad_engine, VadEngine, "LONGHAND_VAD_ENGINE")
        return load_vad(self.catalogue, name)

    @property
    def close_speech_vad(self) -> VoiceModel:
        """Leaves far voices out: the echo of a call's other side, and whoever is behind somebody that enrols."""
        return self.vad.first if isinstance(self.vad, CombinedVad) else self.vad

    def limit_batch_size(self, size: int) -> None:
        """Memory ran out with a larger batch; the process keeps to this size until it ends."""
        self.max_batch_size = min(size, self.max_batch_size or size)
        logger.warning("memory ran out: batches hold at most %d chunks from now on", self.max_batch_size)

    def drafter(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        """The draft engine of that name, else the first of the configured ones that loads and knows the language.

        Raises EngineUnavailable.
        """
        settings = self.settings

        def load(name: DraftEngine) -> Transcriber:
            return load_draft(
                self.catalogue,
                name,
                sensevoice=settings.sensevoice_model,
                threads=settings.draft_thread_count,
                itn=settings.itn,
            )

        names = engine_order(engine or settings.draft_engine, DraftEngine, "LONGHAND_DRAFT_ENGINE")
        return self._first_for_language(names, load, language)

    def version(self, version_id: uuid.UUID) -> Serving[Transcriber]:
        """The tuned draft model of that id, fetched and checked the first time. Raises EngineUnavailable."""
        with self._loading:
            return self._versions.load(version_id)

    @cached_property
    def _versions(self) -> VersionCache:
        return VersionCache(self.settings, self.sessions, self.storage)

    def refiner(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        """The refine engine of that name, or the first of the configured ones. Raises EngineUnavailable."""
        settings = self.settings

        def load(name: RefineEngine) -> Transcriber:
            return load_refine(
                self.catalogue,
                name,
                model=settings.refine_model,
                device=settings.device,
                compute_type=settings.compute_type,
                threads=settings.refine_thread_count,
            )

        names = engine_order(engine or settings.refine_engine, RefineEngine, "LONGHAND_REFINE_ENGINE")
        return self._first_for_language(names, load, language)

    def embedder(self, engine: str | None = None) -> Serving[Embedder]:
        """The voice engine of that name, or the first of the configured ones. Raises EngineUnavailable."""
        names = engine_order(engine or self.settings.voice_engine, VoiceEngine, "LONGHAND_VOICE_ENGINE")
        threads = self.settings.refine_thread_count

        def load(name: VoiceEngine) -> Embedder:
            return self._load_once(name, lambda n: load_voice(self.catalogue, n, threads=threads))

        return first_available(names, load)

    def diarizer(self, engine: str | None = None, voice: str | None = None) -> Serving[ChunkDiarizer | Diarizer]:
        """The diarization engine of that name, or the first of the configured ones. Raises EngineUnavailable."""
        settings = self.settings
        names = engine_order(engine or settings.diarize_engine, DiarizeEngine, "LONGHAND_DIARIZE_ENGINE")

        def load(name: DiarizeEngine) -> ChunkDiarizer | Diarizer:
            if name == DiarizeEngine.PYANNOTE:
                return self._load_once(name, lambda _: self._pyannote())
            segmentation = self._load_once(
                name, lambda _: load_segmentation(self.catalogue, threads=settings.refine_thread_count)
            )
            return ChunkDiarizer(segmentation, self.embedder(voice).engine)

        return first_available(names, load)

    def _pyannote(self) -> Diarizer:
        settings = self.settings
        return PyannotePipeline(model=settings.pyannote_model, token=settings.hf_token, device=settings.device)

    def _first_for_language(
        self, names: list[Name], load: Callable[[Name], Transcriber], language: str | None
    ) -> Serving[Transcriber]:
        def loaded_for_language(name: Name) -> Transcriber:
            engine = self._load_once(name, load)
            if language is not None and language not in engine.languages:
                raise EngineUnavailable(f"The engine {name} does not know the language {language!r}.")
            return engine

        return first_available(names, loaded_for_language)

    def _load_once(self, name: Name, load: Callable[[Name], E]) -> E:
        """Load an engine the first time it is wanted; one that could not load then is not tried again."""
        key = (type(name), name.value)
        with self._loading:
            if key not in self._engines:
                try:
                    self._engines[key] = load(name)
                except EngineUnavailable as error:
                    logger.warning("%s", error)
                    self._engines[key] = error
            found = self._engines[key]
        if isinstance(found, EngineUnavailable):
            raise found
        return cast(E, found)  # what this name's loader gave


@cache
def get_runtime() -> Runtime:
    return Runtime(get_settings())
