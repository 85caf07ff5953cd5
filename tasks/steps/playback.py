"""What players need of a recording, made as it is cut: its waveform, and a rendition where browsers need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from db.objects.storage import Storage, job_prefix
from db.objects.writer import ObjectWriter
from db.queue.claims import Claim
from speech.audio.encoding import OPUS, Encoder
from speech.audio.peaks import PeakMeter

Block = NDArray[np.float32]
"""Samples in -1..1, shape (samples,) or (channels, samples)."""


class Playback:
    """Takes the recording block by block, and writes to storage as it goes."""

    def __init__(self, storage: Storage, peaks_key: str, rendition: ObjectWriter | None) -> None:
        self._storage, self._peaks_key, self._rendition = storage, peaks_key, rendition
        self._meter = PeakMeter()
        self._encoder = Encoder(OPUS) if rendition else None

    def heard(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks, each taken as it passes."""
        for block in blocks:
            self._meter.push(block)
            if self._encoder is not None:
                self._write(self._encoder.push(block))
            yield block

    def finish(self) -> tuple[str, str | None]:
        """The keys of the waveform and of the rendition."""
        self._storage.put(self._peaks_key, self._meter.finish(), "application/octet-stream")
        if self._encoder is None or self._rendition is None:
            return self._peaks_key, None
        self._write(self._encoder.finish())
        self._rendition.close()
        return self._peaks_key, self._rendition.key

    def _write(self, data: bytes) -> None:
        if self._rendition is not None and self._rendition.accept(data):
            self._rendition.flush()


@contextmanager
def playback(storage: Storage, claim: Claim, *, plays: bool) -> Iterator[Playback]:
    """``plays``: whether browsers play the recording as it is, so that it takes no rendition."""
    # the fence in the keys keeps a late worker from overwriting what its successor committed
    prefix = job_prefix(claim.job_id)
    rendition = None if plays else storage.writer(f"{prefix}rendition-{claim.fence}.ogg", OPUS.media_type)
    try:
        yield Playback(storage, f"{prefix}peaks-{claim.fence}", rendition)
    except BaseException:
        if rendition is not None:
            rendition.abort()
        raise
