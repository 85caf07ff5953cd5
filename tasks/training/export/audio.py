"""The audio of segments, cut out of their chunks."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

import numpy as np

from db.models import Chunk
from db.objects.storage import ObjectMissing
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Samples
from speech.text.timeline import Timeline
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)

TOLERANCE = 0.1
"""Seconds. Aligned times may be that far off."""


@dataclass(frozen=True, slots=True)
class ChunkAudio:
    """A decoded chunk, and where it lies in the recording."""

    samples: Samples
    timeline: Timeline

    @classmethod
    def load(cls, runtime: Runtime, job_id: uuid.UUID, chunk: int) -> ChunkAudio | None:
        """None where the chunk is gone or damaged."""
        with runtime.sessions() as session:
            row = session.get(Chunk, (job_id, chunk))
        if row is None:
            return None
        try:
            return cls(flac.decode(runtime.storage.get(row.key)), Timeline.of(row.spans))
        except (ObjectMissing, flac.DecodeError) as error:
            logger.warning("chunk %d of job %s is left out: %s", chunk, job_id, error)
            return None

    def covers(self, start: float, end: float) -> bool:
        """Whether a span, in seconds of the recording, lies within it; one that was joined may go beyond."""
        return start >= self.timeline.start - TOLERANCE and end <= self.timeline.end + TOLERANCE

    def cut(self, start: float, end: float) -> Samples:
        """What the chunk holds of a span, given in seconds of the recording."""
        pieces = [
            self.samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
            for first, last in self.timeline.in_chunk(start, end)
        ]
        return np.concatenate(pieces) if pieces else self.samples[:0]
