"""The engines of a worker process, loaded by role and name."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar, cast

from db.settings import Settings
from db.telemetry import metrics
from http_engines.endpoints import EndpointsFile
from http_engines.engines import RemoteEngines
from speech.audio.vad.combined import CombinedVad
from speech.engines import Aligner, Diarizer, Embedder, EngineUnavailable, Transcriber, VoiceModel
from speech.load import (
    Engine,
    SelectedEngine,
    load_aligner,
    load_draft,
    load_first_available,
    load_refine,
    load_segmentation,
    load_vad,
    load_voice,
    parse_engine_names,
)
from speech.meaning import MeaningModel, load_meaning
from speech.models.catalogue import Catalogue
from speech.models.names import HTTP, DiarizeEngine, DraftEngine, RefineEngine, VadEngine, VoiceEngine
from speech.speakers.diarization import ChunkDiarizer
from speech.speakers.pyannote_audio import PyannotePipeline
from tasks.training.versions import VersionCache

E = TypeVar("E", bound=Engine)
Name = TypeVar("Name", bound=StrEnum)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a transcriber is chosen by. What is None is left to the settings."""

    engine: str | None = None
    language: str | None = None
    model: str | None = None
    """Of those behind HTTP, instead of an engine."""
    translate: bool = False


ANY = Wanted()


class Engines:
    """Engines load on first use, or at warm-up, and stay loaded. Thread-safe."""

    def __init__(self, settings: Settings, versions: Callable[[], VersionCache]) -> None:
        """``versions`` is called when a tuned draft model is first asked for."""
        self._settings = settings
        self._versions = versions
        # keyed by role too: engines of two roles may have the same name
        self._engines: dict[tuple[type[StrEnum], str], Engine | EngineUnavailable] = {}
        self._loading = threading.RLock()

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self._settings.models_path)

    @cached_property
    def vad(self) -> VoiceModel:
        """Raises EngineUnavailable."""
        (name, *_) = parse_engine_names(self._settings.vad_engine, VadEngine, "LONGHAND_VAD_ENGINE")
        return load_vad(self.catalogue, name)

    @property
    def close_speech_vad(self) -> VoiceModel:
        """Ignores far voices: the echo of a call's other side, people in the background of an enrolment."""
        return self.vad.first if isinstance(self.vad, CombinedVad) else self.vad

    @cached_property
    def remote(self) -> RemoteEngines:
        """The models behind HTTP."""
        return RemoteEngines(EndpointsFile(self._settings.endpoints), self._load_aligner)

    def _load_aligner(self) -> Aligner:
        """Raises EngineUnavailable."""
        with self._loading:
            return self._aligner

    @cached_property
    def _aligner(self) -> Aligner:
        settings = self._settings
        return load_aligner(
            self.catalogue,
            model=settings.refine_model,
            device=settings.device,
            compute_type=settings.compute_type,
            threads=settings.refine_thread_count,
        )

    def drafter(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        """The named draft engine or model, or the first configured one that loads and can do what is wanted.

        Raises EngineUnavailable.
        """
        settings = self._settings

        def load(name: DraftEngine) -> Transcriber:
            return load_draft(
                self.catalogue,
                name,
                sensevoice=settings.sensevoice_model,
                threads=settings.draft_thread_count,
                itn=settings.itn,
            )

        names = parse_engine_names(wanted.engine or settings.draft_engine, DraftEngine, "LONGHAND_DRAFT_ENGINE")
        chosen = [wanted.model] if wanted.model else self._expand("draft", names)
        return self._first_able(chosen, DraftEngine, load, wanted)

    def version(self, version_id: uuid.UUID) -> SelectedEngine[Transcriber]:
        """A tuned model, fetched and verified on first use. Raises EngineUnavailable."""
        with self._loading:
            return self._versions().load(version_id)

    def refiner(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        """The named refine engine or model, or the first configured one that loads and can do what is wanted.

        Raises EngineUnavailable.
        """
        settings = self._settings

        def load(name: RefineEngine) -> Transcriber:
            return load_refine(
                self.catalogue,
                name,
                model=settings.refine_model,
                device=settings.device,
                compute_type=settings.compute_type,
                threads=settings.refine_thread_count,
                second_readings=settings.second_readings,
                vllm_model=settings.vllm_model,
            )

        names = parse_engine_names(wanted.engine or settings.refine_engine, RefineEngine, "LONGHAND_REFINE_ENGINE")
        chosen = [wanted.model] if wanted.model else self._expand("refine", names)
        return self._first_able(chosen, RefineEngine, load, wanted)

    def _expand(self, role: str, names: Sequence[StrEnum]) -> list[str]:
        """Engines by name, with the models behind HTTP in place of ``http``."""
        expanded: list[str] = []
        for name in names:
            models = self.remote.names(role) if name == HTTP else []
            expanded += models or [name.value]
        return expanded

    def embedder(self, engine: str | None = None) -> SelectedEngine[Embedder]:
        """The named voice engine, or the first configured one that loads. Raises EngineUnavailable."""
        names = parse_engine_names(engine or self._settings.voice_engine, VoiceEngine, "LONGHAND_VOICE_ENGINE")
        threads = self._settings.refine_thread_count

        def load(name: VoiceEngine) -> Embedder:
            return self._load_once(name, lambda n: load_voice(self.catalogue, n, threads=threads))

        return load_first_available(names, load)

    @cached_property
    def meaning(self) -> MeaningModel:
        """Raises EngineUnavailable."""
        with self._loading:
            return load_meaning(self._settings.models_path)

    def diarizer(
        self, engine: str | None = None, voice: str | None = None
    ) -> SelectedEngine[ChunkDiarizer | Diarizer]:
        """The named diarization engine, or the first configured one that loads. Raises EngineUnavailable."""
        settings = self._settings
        names = parse_engine_names(engine or settings.diarize_engine, DiarizeEngine, "LONGHAND_DIARIZE_ENGINE")

        def load(name: DiarizeEngine) -> ChunkDiarizer | Diarizer:
            if name == DiarizeEngine.PYANNOTE:
                return self._load_once(name, lambda _: self._pyannote())
            segmentation = self._load_once(
                name, lambda _: load_segmentation(self.catalogue, threads=settings.refine_thread_count)
            )
            return ChunkDiarizer(segmentation, self.embedder(voice).engine)

        return load_first_available(names, load)

    def _pyannote(self) -> Diarizer:
        settings = self._settings
        return PyannotePipeline(model=settings.pyannote_model, token=settings.hf_token, device=settings.device)

    def _first_able(
        self, names: Sequence[str], kind: type[Name], load: Callable[[Name], Transcriber], wanted: Wanted
    ) -> SelectedEngine[Transcriber]:
        """Of engines of this kind, and models behind HTTP."""
        ours = [engine.value for engine in kind]

        def loaded_if_able(name: str) -> Transcriber:
            engine = self._load_once(kind(name), load) if name in ours else self.remote.engine(name)
            if wanted.language is not None and wanted.language not in engine.languages:
                raise EngineUnavailable(f"The engine {name} does not know the language {wanted.language!r}.")
            if wanted.translate and not engine.translates:
                raise EngineUnavailable(
                    f"The engine {name} with {engine.info.model} does not translate; LONGHAND_REFINE_MODEL may be "
                    "base, small, medium or large-v3."
                )
            return engine

        return load_first_available(names, loaded_if_able)

    def _load_once(self, name: Name, load: Callable[[Name], E]) -> E:
        """Load an engine on first use. One that failed to load is not tried again."""
        key = (type(name), name.value)
        with self._loading:
            if key not in self._engines:
                try:
                    with metrics.model_load_seconds.labels(name.value).time():
                        self._engines[key] = load(name)
                except EngineUnavailable as error:
                    logger.warning("%s", error)
                    self._engines[key] = error
            loaded = self._engines[key]
        if isinstance(loaded, EngineUnavailable):
            raise loaded
        return cast(E, loaded)  # what this name's loader returned
