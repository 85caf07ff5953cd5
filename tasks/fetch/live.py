"""Putting the pieces of a live session together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from db.models import LivePiece
from db.objects.storage import Storage
from db.settings import Settings
from speech.audio import flac
from speech.audio.encoding import FLAC, OPUS, Encoder
from tasks.errors import Permanent
from tasks.fetch.address import Recording


def read_live(storage: Storage, pieces: Sequence[LivePiece], name: str, settings: Settings) -> Recording:
    """The session as one compressed recording. Raises Permanent, ObjectMissing or StorageError."""
    if not pieces:
        raise Permanent("audio_empty", "The live session ended before it brought any sound.")
    encoding = OPUS if settings.enable_compress else FLAC

    def encoded() -> Iterator[bytes]:
        encoder = Encoder(encoding)
        for piece in pieces:
            yield encoder.push(flac.decode(storage.get(piece.key)))
        yield encoder.finish()

    return Recording(encoded(), filename=f"{name}.{encoding.container}")
