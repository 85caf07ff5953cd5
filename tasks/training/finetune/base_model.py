"""The model that a fine-tuning starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from db.training import versions
from speech.engines import EngineUnavailable
from tasks.errors import Permanent
from tasks.runtime import Runtime
from tasks.training.finetune.version_files import download

CATALOGUE_BASE = "sensevoice-small-torch"
"""The catalogue's name of the model that a first fine-tuning starts from."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    folder: Path
    name: str


def locate_base_model(runtime: Runtime, tenant: str, folder: Path) -> BaseModel:
    """The version that serves the tenant (downloaded to ``folder``), else the configured or the catalogue's model.

    Raises Permanent.
    """
    with runtime.sessions() as session:
        serving = versions.serving(session, tenant)
    if serving is not None:
        download(runtime, serving.id, serving.files, "original/", folder)
        return BaseModel(folder, str(serving.id))
    configured = runtime.settings.finetune_base
    if configured is not None:
        if not (configured / "model.pt").is_file():
            raise Permanent("no_base_model", f"LONGHAND_FINETUNE_BASE: there is no model.pt in {configured}.")
        return BaseModel(configured.absolute(), configured.name)
    try:
        return BaseModel(runtime.engines.catalogue.locate(CATALOGUE_BASE).absolute(), CATALOGUE_BASE)
    except EngineUnavailable as error:
        raise Permanent("no_base_model", f"{error} Or set LONGHAND_FINETUNE_BASE.") from error
