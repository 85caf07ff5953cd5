"""The stages of a process, by its settings: each in this process, or behind a URL."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np

from db.settings import Settings
from live.inprocess.denoise import InProcessDenoising
from live.inprocess.detection import InProcessLanguage, InProcessVad
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.remote.asr import LinkOptions, RemoteRecognizer
from live.remote.denoise import RemoteDenoising
from live.remote.language import RemoteLanguage
from live.remote.pool import Pool
from live.remote.vad import RemoteVad
from live.stages import Denoising, LanguageIdentification, Recognizer, Stages, VoiceDetection
from live.wire.channels import Identity, Peer
from live.wire.opus import OpusEncoder
from speech.asr.whisper.decoding import LIVE
from speech.audio.denoise import GtcrnModel
from speech.engines import SAMPLE_RATE, LanguageDetector, Transcriber, Utterance, VoiceModel
from speech.load import load_draft, load_first_available, load_vad, parse_engine_names
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, VadEngine
from speech.models.streams import stream_count

ANSWER_SECONDS = 3.0
"""That a stage in another process may take to admit a session, or to answer about a piece of audio."""


def load_stages(settings: Settings) -> Stages:
    """Raises EngineUnavailable, BadAddress."""
    here, there = LocalStages(settings), RemoteStages(settings)
    vad = here.vad()
    denoise = (there.denoise() or here.denoise()) if settings.enable_denoise else None
    return Stages(
        vad=there.vad(instead=vad) or vad,
        asr=there.asr() or here.asr(),
        language=there.language() or here.language(),
        denoise=denoise,
    )


class LocalStages:
    """Stages in this process. What they share is loaded once. All methods raise EngineUnavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings.models_path)

    def vad(self) -> VoiceDetection:
        return InProcessVad(load_voice_detection(self._settings))

    def asr(self) -> Recognizer:
        settings = self._settings
        return InProcessRecognizer(
            self.engine,
            self._pool,
            sessions=settings.live_asr_session_count,
            interval_seconds=settings.partial_interval_ms / 1000,
        )

    def language(self) -> LanguageIdentification | None:
        """None where the draft engine hears the language of each utterance anyway."""
        engine = self.engine
        return InProcessLanguage(engine, self._pool) if isinstance(engine, LanguageDetector) else None

    def denoise(self) -> Denoising:
        return InProcessDenoising(GtcrnModel(self._catalogue.locate("gtcrn") / "gtcrn_simple.onnx"))

    @cached_property
    def engine(self) -> Transcriber:
        """The first draft engine that loads, warmed up: its first computation takes several times as long."""
        settings = self._settings
        names = parse_engine_names(settings.draft_engine, DraftEngine, "LONGHAND_DRAFT_ENGINE")
        engine = load_first_available(
            names,
            lambda name: load_draft(
                self._catalogue,
                name,
                sensevoice=settings.sensevoice_model,
                threads=settings.live_thread_count,
                itn=settings.itn,
                decoding=LIVE,
            ),
        ).engine
        silence = np.zeros(SAMPLE_RATE, np.float32)
        engine.transcribe([Utterance(silence, "en"), Utterance(silence)])
        return engine

    @cached_property
    def _pool(self) -> EnginePool:
        return EnginePool(stream_count(self._settings.live_thread_count))


def load_voice_detection(settings: Settings) -> VoiceModel:
    """That of near voices, which decides at once. Raises EngineUnavailable."""
    (name, *_) = parse_engine_names(settings.vad_engine, VadEngine, "LONGHAND_VAD_ENGINE")
    return load_vad(Catalogue(settings.models_path), VadEngine.SILERO if name is VadEngine.COMBINED else name)


class RemoteStages:
    """Stages behind URLs; None where the settings name none. All methods raise BadAddress."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._identity = identity_of(settings)

    def vad(self, *, instead: VoiceDetection) -> VoiceDetection | None:
        """``instead`` takes over where the server does not answer."""
        peer = self._peer(self._settings.vad_url)
        return RemoteVad(peer, instead, seconds=ANSWER_SECONDS) if peer else None

    def asr(self) -> Recognizer | None:
        settings = self._settings
        if not settings.asr_routes:
            return None
        frame_ms = settings.asr_link_frame_ms
        opus = partial(OpusEncoder, bitrate=settings.asr_link_bitrate, frame_ms=frame_ms)
        options = LinkOptions(make_encoder=opus if settings.asr_link_codec == "opus" else None, frame_ms=frame_ms)
        return RemoteRecognizer(Pool(settings.asr_routes, self._identity, seconds=ANSWER_SECONDS), options)

    def language(self) -> LanguageIdentification | None:
        peer = self._peer(self._settings.lid_url)
        return RemoteLanguage(peer, seconds=ANSWER_SECONDS) if peer else None

    def denoise(self) -> Denoising | None:
        peer = self._peer(self._settings.denoise_url)
        return RemoteDenoising(peer, seconds=ANSWER_SECONDS) if peer else None

    def _peer(self, url: str | None) -> Peer | None:
        return Peer(url, self._identity) if url else None


def identity_of(settings: Settings) -> Identity:
    """What this process shows to stages in others, and how it knows them."""
    return Identity(settings.stage_ca, settings.stage_certificate, settings.stage_key)
