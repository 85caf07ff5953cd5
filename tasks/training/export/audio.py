"""The audio of segments, cut out of their chunks."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

from db.models import Chunk
from db.objects.storage import ObjectMissing
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Samples
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkAudio:
    """A decoded chunk; ``start`` is in seconds from the start of the recording."""

    samples: Samples
    start: float

    @classmethod
    def load(cls, runtime: Runtime, job_id: uuid.UUID, chunk: int) -> ChunkAudio | None:
        """None where the chunk is gone or damaged."""
        with runtime.sessions() as session:
            row = session.get(Chunk, (job_id, chunk))
        if row is None:
            return None
        try:
            return cls(flac.decode(runtime.storage.get(row.key)), row.start)
        except (ObjectMissing, flac.DecodeError) as error:
            logger.warning("chunk %d of job %s is left out: %s", chunk, job_id, error)
            return None

    def cut(self, start: float, end: float) -> Samples:
        """The samples of a span, given in seconds from the start of the recording."""
        first, last = (max(0, round((time - self.start) * SAMPLE_RATE)) for time in (start, end))
        return self.samples[first:last]
