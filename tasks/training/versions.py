"""Cache of tuned models on a worker: fetched from S3, checked, and the most recent kept loaded."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import select

from db.models import ModelVersion, Role
from db.objects.storage import ObjectMissing, Storage
from db.session import Sessions
from db.settings import Settings
from db.training import versions
from speech.engines import EngineUnavailable, Transcriber
from speech.load import SelectedEngine, load_tuned_draft, load_tuned_refine
from speech.models.catalogue import Catalogue, sha256

MAX_LOADED_MODELS = 5
"""The serving version and the canary of each role, and one more for another tenant."""

EXPORT_PREFIX = "export/"
"""The files that serve, below the version's own prefix."""
FULL_MODEL, QUANTISED_MODEL = "model.onnx", "model.int8.onnx"


def model_name(version: ModelVersion) -> str:
    """The name under which jobs record the version."""
    return f"version-{version.number}"


def untuned_model(role: Role, settings: Settings) -> str:
    """What the settings name as this role's model, from which its first fine-tuning starts."""
    if role == Role.REFINED:
        return settings.refine_model
    return str(settings.finetune_base or f"{settings.draft_engine} with {settings.sensevoice_model}")


def is_outdated(version: ModelVersion, settings: Settings) -> bool:
    """Whether it was tuned from another model than the one that is configured now."""
    now = untuned_model(version.role, settings)
    return bool(version.metrics.get("origin", now) != now)


class VersionLost(EngineUnavailable):
    """A version's files are gone from storage, or damaged there: it can be had nowhere any more."""


class VersionCache:
    """Not thread-safe: the runtime calls it under its lock."""

    def __init__(self, settings: Settings, sessions: Sessions, storage: Storage) -> None:
        self._settings, self._sessions, self._storage = settings, sessions, storage
        self._folder = settings.models_path / "versions"
        self._loaded: OrderedDict[uuid.UUID, SelectedEngine[Transcriber]] = OrderedDict()

    def load(self, version_id: uuid.UUID) -> SelectedEngine[Transcriber]:
        """Raises VersionLost, and EngineUnavailable where it cannot be loaded on this machine."""
        if version_id not in self._loaded:
            # first: there may be memory for no more
            while len(self._loaded) >= MAX_LOADED_MODELS:
                self._loaded.popitem(last=False)
            self._loaded[version_id] = self._open(version_id)
        self._loaded.move_to_end(version_id)
        return self._loaded[version_id]

    def _open(self, version_id: uuid.UUID) -> SelectedEngine[Transcriber]:
        with self._sessions() as session:
            version = session.get(ModelVersion, version_id)
        if version is None:
            raise EngineUnavailable(f"There is no model version {version_id}.")
        settings = self._settings
        if is_outdated(version, settings):
            raise EngineUnavailable(
                f"Version {version.number} was tuned from {version.metrics['origin']}, and what is set now is "
                f"{untuned_model(version.role, settings)}: it serves until a version is tuned from it."
            )
        folder = self._fetch(version)
        engine: Transcriber
        if version.role == Role.DRAFT:
            catalogue = Catalogue(settings.models_path)
            threads = settings.draft_thread_count
            engine = load_tuned_draft(catalogue, version.engine, folder, threads=threads, itn=settings.itn)
        else:
            engine = load_tuned_refine(
                folder,
                device=settings.device,
                compute_type=settings.compute_type,
                threads=settings.refine_thread_count,
                second_readings=settings.second_readings,
            )
        info = replace(engine.info, model=model_name(version))
        return SelectedEngine(engine, info)

    def _fetch(self, version: ModelVersion) -> Path:
        folder = self._folder / str(version.id)
        hashes = {path: file["sha256"] for path, file in version.files.items() if path.startswith(EXPORT_PREFIX)}
        # the engine prefers the quantised model, and the full one is four times as large
        if EXPORT_PREFIX + QUANTISED_MODEL in hashes:
            hashes.pop(EXPORT_PREFIX + FULL_MODEL, None)
        self._folder.mkdir(parents=True, exist_ok=True)
        # workers may share the folder: one fetches, the others find it complete
        with (self._folder / f".{version.id}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if all(_intact(folder / path.removeprefix(EXPORT_PREFIX), digest) for path, digest in hashes.items()):
                return folder
            with TemporaryDirectory(prefix=".", dir=self._folder) as name:
                partial = Path(name) / "complete"
                partial.mkdir()
                for path, digest in hashes.items():
                    self._download(version, path, digest, partial / path.removeprefix(EXPORT_PREFIX))
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
        self._remove_unused()
        return folder

    def _download(self, version: ModelVersion, path: str, digest: str, file: Path) -> None:
        try:
            file.write_bytes(self._storage.get(versions.prefix(version.id) + path))
        except ObjectMissing as error:
            raise VersionLost(f"Of version {version.number}, {path} is gone from storage.") from error
        if not _intact(file, digest):
            raise VersionLost(f"Of version {version.number}, {path} is damaged in storage.")

    def _remove_unused(self) -> None:
        """Delete the folders of versions that no job can use any more."""
        with self._sessions() as session:
            usable = session.scalars(
                select(ModelVersion.id).where(ModelVersion.state.in_(versions.USABLE_STATES))
            ).all()
        for folder in self._folder.iterdir():
            if not folder.name.startswith(".") and folder.name not in map(str, usable):
                shutil.rmtree(folder, ignore_errors=True)


def _intact(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest
