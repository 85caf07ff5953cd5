"""The model that a fine-tuning starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from db.models import Role
from db.training import versions
from speech.engines import EngineUnavailable
from speech.load import DRAFT_ENGLISH_MODEL, catalogue_name
from speech.models.catalogue import Catalogue
from tasks.errors import Broken
from tasks.runtime import Runtime
from tasks.training.finetune.version_files import download
from tasks.training.versions import is_outdated

SENSEVOICE = "sensevoice-small-torch"
"""The catalogue's name of the draft model that a first fine-tuning starts from, where it is present."""
WEIGHTS_FILES = ("model.pt", "model.bin")
"""Of a SenseVoice in FunASR's form, and of a Whisper in CTranslate2's."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """``origin`` is the folder of the model that was never tuned."""

    folder: Path
    name: str
    origin: Path


def locate_base_model(runtime: Runtime, tenant: str, role: Role, folder: Path) -> BaseModel:
    """The version that serves the tenant (downloaded to ``folder``), else the configured or the catalogue's model.

    Raises Broken.
    """
    with runtime.sessions() as session:
        serving = versions.serving(session, tenant, role)
    if serving is None or is_outdated(serving, runtime.settings):
        return _untuned(runtime, role)
    has_original = any(path.startswith("original/") for path in serving.files)
    download(runtime, serving.id, serving.files, "original/" if has_original else "export/", folder)
    try:
        origin = _untuned(runtime, role).origin
    except Broken:  # it may be gone by now: then nothing may be lost against what serves
        origin = folder
    return BaseModel(folder, str(serving.id), origin if _is_alike(origin, folder) else folder)


def _untuned(runtime: Runtime, role: Role) -> BaseModel:
    settings = runtime.settings
    if role == Role.REFINED:
        return _refine_model(runtime.engines.catalogue, settings.refine_model)
    configured = settings.finetune_base
    if configured is None:
        return _draft_model(runtime.engines.catalogue)
    if not any((configured / name).is_file() for name in WEIGHTS_FILES):
        raise Broken(
            "no_base_model", f"LONGHAND_FINETUNE_BASE: there is no {' or '.join(WEIGHTS_FILES)} in {configured}."
        )
    return BaseModel(configured.absolute(), configured.name, configured.absolute())


def _draft_model(catalogue: Catalogue) -> BaseModel:
    """SenseVoice, or what drafts where that is not present."""
    reasons = []
    for name in (SENSEVOICE, DRAFT_ENGLISH_MODEL):
        try:
            folder = catalogue.locate(name).absolute()
        except EngineUnavailable as error:
            reasons.append(str(error))
        else:
            return BaseModel(folder, name, folder)
    raise Broken("no_base_model", f"{' '.join(reasons)} Or set LONGHAND_FINETUNE_BASE.")


def _refine_model(catalogue: Catalogue, model: str) -> BaseModel:
    try:
        folder = Path(model) if Path(model).is_dir() else catalogue.locate(catalogue_name(catalogue, model))
    except EngineUnavailable as error:
        raise Broken("no_base_model", str(error)) from error
    if not (folder / "model.bin").is_file():
        raise Broken("no_base_model", f"LONGHAND_REFINE_MODEL: there is no model.bin in {folder}.")
    return BaseModel(folder.absolute(), folder.name, folder.absolute())


def _is_alike(one: Path, other: Path) -> bool:
    """Whether both are a SenseVoice, or a Whisper."""
    return all((one / name).is_file() == (other / name).is_file() for name in WEIGHTS_FILES)
