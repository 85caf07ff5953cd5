"""This machine: models, GPU, room on its disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from db.settings import GIB, Settings
from speech.asr.whisper.device import count_cuda_devices
from speech.models.catalogue import Catalogue
from workers.diagnosis.finding import Finding, broken, ok, warning

DRIVER = Path("/proc/driver/nvidia/version")


def check_models(settings: Settings) -> Iterator[Finding]:
    """Every file is hashed: seconds for a gigabyte."""
    catalogue = Catalogue(settings.models_path)
    intact = []
    for model in catalogue.models.values():
        pull = f"Run `longhand models pull {model.name}`."
        if not catalogue.present(model.name):
            if model.required:
                yield broken("models", f"{model.name} is not in {catalogue.folder}", pull)
            elif model.wanted:
                instead = f"; {model.stand_in} serves in its place" if model.stand_in else ""
                yield warning("models", f"{model.name} is not here{instead}", pull)
            continue
        faults = list(catalogue.verify(model.name))
        parity = catalogue.parity(model.name)
        if faults:
            yield broken("models", "; ".join(faults), pull)
        elif parity is not None and not parity.passed:
            yield warning("models", f"{model.name} differs from its original and is refused", pull)
        else:
            intact.append(model.name)
    if intact:
        yield ok("models", f"intact: {', '.join(intact)}")


def check_gpu(settings: Settings) -> Iterator[Finding]:
    count = count_cuda_devices()
    if count:
        used = " (LONGHAND_DEVICE=cpu leaves it alone)" if settings.device == "cpu" else ""
        yield ok("gpu", f"{count} CUDA device{'s' if count > 1 else ''}{used}")
    elif settings.device == "cuda":
        advice = "Set LONGHAND_DEVICE=auto, or install the driver and CUDA's libraries."
        yield broken("gpu", "LONGHAND_DEVICE=cuda, and no CUDA device can be used", advice)
    elif DRIVER.exists():
        advice = "Install CUDA's libraries (cuBLAS, cuDNN) that CTranslate2 loads, or give the container the GPU."
        yield warning("gpu", "there is an NVIDIA driver, but no CUDA device can be used", advice)
    else:
        yield ok("gpu", "none: refinement runs on the CPU")


def check_disk(settings: Settings) -> Iterator[Finding]:
    for folder, least in ((settings.data_dir, settings.min_free_bytes), (settings.models_path, 0)):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(there).free
        found = f"{free / GIB:.1f} GiB free at {folder}"
        if free < least:
            advice = "Make room, or delete jobs: uploads are refused (LONGHAND_MIN_FREE_BYTES)."
            yield broken("disk", found, advice)
        elif free < 2 * max(least, GIB):
            yield warning("disk", found, "Make room soon.")
        else:
            yield ok("disk", found)
