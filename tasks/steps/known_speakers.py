"""People who may speak in a recording, known from samples that came with it."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from db.models import KnownSpeaker
from speech.audio.isolated.client import DecoderLost
from speech.audio.media import MediaError
from speech.engines import SAMPLE_RATE, Embedder, Samples
from speech.speakers.clustering import Vectors
from tasks.errors import Transient
from tasks.runtime import Runtime

MIN_SECONDS, MAX_SECONDS = 1.0, 30.0


class UnusableSample(Exception):
    """A sample cannot be read. The message says whose, and why."""


@dataclass(frozen=True, slots=True)
class KnownVoice:
    name: str
    vector: Vectors
    """Length 1, shape (dimensions,)."""


def load(runtime: Runtime, job_id: uuid.UUID) -> dict[str, bytes]:
    """The samples of the job, by name."""
    query = select(KnownSpeaker.name, KnownSpeaker.sample).where(KnownSpeaker.job_id == job_id)
    with runtime.sessions() as session:
        return {name: sample for name, sample in session.execute(query)}


def voiceprints(runtime: Runtime, samples: dict[str, bytes], embedder: Embedder) -> list[KnownVoice]:
    """A voiceprint of each sample. Raises UnusableSample."""
    return [
        KnownVoice(name, embedder.embed([_decode(runtime, name, sample)])[0]) for name, sample in samples.items()
    ]


def _decode(runtime: Runtime, name: str, sample: bytes) -> Samples:
    try:
        with runtime.decoder.open(io.BytesIO(sample), max_duration=MAX_SECONDS) as media:
            sound = np.concatenate(list(media.blocks(seconds=MAX_SECONDS)))
    except MediaError as error:
        raise UnusableSample(f"The sample of {name!r} cannot be used: {error}") from error
    except DecoderLost as error:
        raise Transient(str(error)) from error
    if len(sound) < MIN_SECONDS * SAMPLE_RATE:
        raise UnusableSample(f"The sample of {name!r} is shorter than {MIN_SECONDS:g} s; send 2 to 10 s.")
    return sound
