"""Putting the pieces of a live session together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from db.models import LivePiece
from db.objects.storage import Storage
from db.settings import Settings
from speech.audio import archive, flac
from speech.engines import Samples
from tasks.errors import Permanent
from tasks.fetch.address import Recording


def read_live(storage: Storage, pieces: Sequence[LivePiece], flow_id: str, settings: Settings) -> Recording:
    """The session as one compressed recording. Raises Permanent, ObjectMissing or StorageError."""
    if not pieces:
        raise Permanent("audio_empty", "The live session ended before it brought any sound.")
    encoding = archive.OPUS if settings.enable_compress else archive.FLAC

    def blocks() -> Iterator[Samples]:
        for piece in pieces:
            yield flac.decode(storage.get(piece.key))

    return Recording(archive.encode(blocks(), encoding), filename=f"{flow_id}.{encoding.ending}")
