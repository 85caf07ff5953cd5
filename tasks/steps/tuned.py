"""The tuned model of a chunk's job, and what becomes of one whose files are lost."""

from __future__ import annotations

import logging
import uuid
from contextlib import suppress

from db.models import ModelVersion
from db.training import versions
from speech.engines import EngineUnavailable, Transcriber
from speech.load import SelectedEngine
from tasks.runtime import Runtime
from tasks.steps.transcribe import ChunkInput
from tasks.training.versions import VersionLost

logger = logging.getLogger(__name__)


def tuned(runtime: Runtime, chunk_input: ChunkInput) -> SelectedEngine[Transcriber] | None:
    """None where none is assigned, it does not know the language, or it cannot be had."""
    version = chunk_input.version
    while version is not None:
        try:
            selected = runtime.engines.version(version)
        except VersionLost as error:
            # the version that served before it does the rest
            logger.error("%s", error)
            version = _roll_back(runtime, version, str(error))
        except (EngineUnavailable, OSError) as error:
            # this machine lacks memory, room on its disk, or the compute type: another may have it
            logger.error("a version cannot be loaded on this machine: %s", error)
            return None
        else:
            language = chunk_input.wanted.language
            return selected if language is None or language in selected.engine.languages else None
    return None


def _roll_back(runtime: Runtime, version_id: uuid.UUID, reason: str) -> uuid.UUID | None:
    """Returns the version that serves instead."""
    with runtime.sessions.begin() as session:
        version = session.get(ModelVersion, version_id)
        if version is None:
            return None
        with suppress(versions.InvalidTransition):  # another worker was first
            versions.roll_back(session, version, reason)
        serving = versions.serving(session, version.tenant, version.role)
        return serving.id if serving is not None and serving.id != version_id else None
