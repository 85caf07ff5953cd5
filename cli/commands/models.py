"""``longhand models``: which are present, which replace missing ones, and fetching them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.command import ExitCode, Output, command
from cli.models.conversion import SourceFailed, console
from cli.models.fetch import export_original, fetch, lock
from db.settings import get_settings
from speech.models.catalogue import ORIGINAL_PURPOSE, Catalogue, Model

app = typer.Typer(help="The speech models on this machine.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Models of the catalogue; the default set if none.")]


def catalogue() -> Catalogue:
    return Catalogue(get_settings().models_path)


@command(app, "list")
def list_models() -> Output:
    """Every model of the catalogue: whether it is present, and what replaces it if not."""
    models = catalogue()
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "for", "size", "licence", "here", "parity", "serves instead"):
        table.add_column(heading, no_wrap=heading in ("model", "serves instead"))
    found = []
    for model in models.models.values():
        here = models.present(model.name)
        size = f"{model.size / 1e6:,.0f} MB" if model.size else "-"
        parity = models.parity(model.name) if here else None
        compared = "" if parity is None else "equal" if parity.passed else "refused"
        instead = "" if here and compared != "refused" else _stand_in(model)
        table.add_row(model.name, model.purpose, size, model.licence, "yes" if here else "no", compared, instead)
        found.append({"name": model.name, "purpose": model.purpose, "size": model.size, "licence": model.licence})
        found[-1] |= {"here": here, "parity": compared or None, "serves_instead": instead or None}
    return Output(found, table)


@app.command()
def pull(names: Names = None) -> None:
    """Fetch models, from the first source that has them intact. What is complete is not fetched again."""
    models = catalogue()
    chosen = _choose(models, names)
    missing = []
    for model in chosen:
        with lock(models.folder / f".{model.name}.lock"):
            if models.present(model.name):
                if not (faults := list(models.verify(model.name))):
                    console.print(f"{model.name}: present")
                    continue
                console.print(f"{model.name}: {'; '.join(faults)}: fetching it again")
            if not fetch(models, model):
                missing.append(model)
    for model in missing:
        if not model.required and model.stand_in and not names:
            console.print(f"{model.name}: could not be had; {model.stand_in} serves in its place")
    if wanted := [model.name for model in missing if model.required or names]:
        console.print(f"[red]Could not get {', '.join(wanted)}: no source has them, see above.[/red]")
        raise typer.Exit(1)


@command(app)
def verify(names: Names = None) -> Output:
    """Compare the files here with their checksums."""
    models = catalogue()
    found: dict[str, list[str]] = {}
    for model in _choose(models, names):
        if not names and not models.present(model.name) and not model.required:
            continue
        found[model.name] = list(models.verify(model.name))
    lines = [f"{name}: {'; '.join(faults) if faults else 'intact'}" for name, faults in found.items()]
    if not any(found.values()):
        return Output(found, "\n".join(lines))
    lines.append("Run `longhand models pull` with these names: it fetches them again.")
    return Output(found, "\n".join(lines), ExitCode.FAILED)


class Exporter(StrEnum):
    SENSEVOICE = "sensevoice"
    CAMPPLUS = "campplus"
    PYANNOTE = "pyannote"
    GGML = "ggml"


@app.command()
def export(
    exporter: Exporter,
    original: Annotated[
        Path | None, typer.Option("--from", help="Folder of the original; the catalogue's own by default.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--to", help="Folder to write to; the models' own by default.")
    ] = None,
) -> None:
    """Export the original to ONNX (`ggml`: for whisper.cpp), compare the two, and install the export."""
    try:
        export_original(catalogue(), exporter.value, original, target)
    except SourceFailed as failure:
        console.print(f"[red]{failure}[/red]")
        raise typer.Exit(1) from failure


def _stand_in(model: Model) -> str:
    if model.purpose == ORIGINAL_PURPOSE:
        return ""
    return model.stand_in or ("nothing: required" if model.required else "nothing")


def _choose(models: Catalogue, names: list[str] | None) -> list[Model]:
    if not names:
        return [model for model in models.models.values() if model.required or model.wanted]
    if unknown := [name for name in names if name not in models.models]:
        known = ", ".join(models.models)
        console.print(f"[red]There is no model {', '.join(unknown)}; the catalogue has {known}.[/red]")
        raise typer.Exit(2)
    return [models.models[name] for name in names]
