"""What a worker process keeps open: connections, engines, and the claims it holds."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from os import getpid

from db.events.bus import Bus
from db.objects import removal
from db.objects.storage import Storage
from db.secrets import Secrets
from db.session import Sessions, make_sessions
from db.settings import Settings, get_settings
from speech.audio.isolated.client import IsolatedDecoder, Limits
from tasks.batching import LearntBatch
from tasks.engines import Engines
from tasks.errors import BackupUnderWay
from tasks.held_claims import HeldClaims
from tasks.lease import Renewals
from tasks.training.versions import VersionCache

logger = logging.getLogger(__name__)


class Runtime:
    """One per process. Connections open on first use."""

    def __init__(self, settings: Settings, shut_down: Callable[[str], None] = logger.critical) -> None:
        """``shut_down`` ends the process for the given reason, so that its supervisor starts another.

        Raises ValueError if the secret key is none.
        """
        self.settings = settings
        self.secrets = Secrets(settings)
        self.shut_down = shut_down
        self.worker = f"{socket.gethostname()}:{getpid()}"
        self.claims = HeldClaims()
        self.renewals = Renewals(self)
        self.engines = Engines(settings, lambda: self.version_cache)
        self.learnt_batches: dict[tuple[str, str], LearntBatch] = {}
        """By model and device."""
        self.max_batch_size: int | None = None
        """Chunks in a batch; set once memory has run out."""

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
    def secrets(self) -> Secrets:
        return Secrets(self.settings)

    @cached_property
    def decoder(self) -> IsolatedDecoder:
        """Decodes recordings in processes of their own."""
        limits = Limits(
            memory_bytes=self.settings.decode_memory_bytes, cpu_seconds=self.settings.decode_cpu_seconds
        )
        return IsolatedDecoder(limits)

    @cached_property
    def version_cache(self) -> VersionCache:
        return VersionCache(self.settings, self.sessions, self.storage)

    def remove(self, keys: Iterable[str]) -> None:
        """Delete objects that rows named until a commit that is done. Raises BackupUnderWay."""
        if removal.is_held(self.sessions):
            raise BackupUnderWay
        self.storage.delete(keys)

    def limit_batch_size(self, size: int) -> None:
        """Memory ran out with a larger batch: keep to this size until the process ends."""
        self.max_batch_size = min(size, self.max_batch_size or size)
        logger.warning("memory ran out: batches hold at most %d chunks from now on", self.max_batch_size)


@cache
def get_runtime() -> Runtime:
    return Runtime(get_settings())
