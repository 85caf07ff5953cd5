"""The stages of a process, by its settings."""

from __future__ import annotations

import numpy as np

from db.settings import Settings
from live.inprocess.detection import InProcessLanguage, InProcessVad
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.stages import Stages
from speech.engines import SAMPLE_RATE, LanguageDetector, Transcriber, Utterance, VoiceModel
from speech.load import load_draft, load_first_available, load_vad, parse_engine_names
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, VadEngine
from speech.models.streams import stream_count


def load_stages(settings: Settings) -> Stages:
    """Raises EngineUnavailable."""
    engine = load_engine(settings)
    warm_up(engine)
    pool = EnginePool(stream_count(settings.live_thread_count))
    recognizer = InProcessRecognizer(
        engine,
        pool,
        sessions=settings.live_asr_session_count,
        interval_seconds=settings.partial_interval_ms / 1000,
    )
    language = InProcessLanguage(engine, pool) if isinstance(engine, LanguageDetector) else None
    return Stages(InProcessVad(load_voice_detection(settings)), recognizer, language)


def warm_up(engine: Transcriber) -> None:
    """The first computation of an engine takes several times as long as the others."""
    silence = np.zeros(SAMPLE_RATE, np.float32)
    engine.transcribe([Utterance(silence, "en"), Utterance(silence)])


def load_engine(settings: Settings) -> Transcriber:
    """The first draft engine that loads. Raises EngineUnavailable."""
    names = parse_engine_names(settings.draft_engine, DraftEngine, "LONGHAND_DRAFT_ENGINE")
    catalogue = Catalogue(settings.models_path)
    return load_first_available(
        names,
        lambda name: load_draft(
            catalogue,
            name,
            sensevoice=settings.sensevoice_model,
            threads=settings.live_thread_count,
            itn=settings.itn,
        ),
    ).engine


def load_voice_detection(settings: Settings) -> VoiceModel:
    """That of near voices, which decides at once. Raises EngineUnavailable."""
    (name, *_) = parse_engine_names(settings.vad_engine, VadEngine, "LONGHAND_VAD_ENGINE")
    return load_vad(Catalogue(settings.models_path), VadEngine.SILERO if name is VadEngine.COMBINED else name)
