"""``longhand export``, ``longhand finetune``, ``longhand versions``: from transcripts to better drafts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, console, fail, listing, parse_options, refusals

versions = typer.Typer(help="Tuned draft models: what is tried, what serves.", no_args_is_help=True)

ACTIVE = ("queued", "processing")
Settings = Annotated[list[str] | None, typer.Option("--filter", "-f", help="NAME=VALUE, repeatable.")]


def export(
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in UTC; yesterday by default.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="With --until, instead of a day; in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="With --since.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be exported; write nothing.")
    ] = False,
    filter_: Settings = None,
    clean: Annotated[list[str] | None, typer.Option(help="A step of cleaning: simplify, mask.")] = None,
    to: Annotated[Path | None, typer.Option(file_okay=False, help="Folder to download the export to.")] = None,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Make training data of a day's transcripts; prints what was taken, and why the rest was not."""
    wanted: dict[str, Any] = {"dry_run": dry_run, "filters": parse_options(filter_ or [])}
    wanted["cleaning"] = dict.fromkeys(clean or [], True)
    if date is not None:
        wanted["date"] = date.date().isoformat()
    if since is not None and until is not None:
        wanted |= {"since": f"{since.isoformat()}Z", "until": f"{until.isoformat()}Z"}
    elif since is not None or until is not None:
        raise fail("Give both --since and --until.")
    client = Client(url, key)
    with refusals():
        done = _wait(client.start_export(wanted), client.export)
        _show(done["manifest"])
        if done["prefix"]:
            typer.echo(done["prefix"])
        if to is not None and done["prefix"]:
            _download(client, done, to)


def _wait(started: dict[str, Any], look: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Until it is done. A failure ends the command with its message."""
    with console.status("queued") as status:
        while started["status"] in ACTIVE:
            status.update(started["status"])
            time.sleep(0.5)
            started = look(started["id"])
    if started["error"]:
        raise fail(f"{started['error']['message']} ({started['error']['code']})")
    if started["status"] != "completed":
        raise fail(f"It was {started['status']}.")
    return started


def _show(manifest: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "clips", "hours", "people"):
        table.add_column(heading)
    for name, split in manifest["splits"].items():
        table.add_row(name, str(split["clips"]), f"{split['hours']:.3f}", str(split["persons"]))
    console.print(table)
    if rejections := manifest["rejections"]:
        table = Table("rejected for", "segments", box=None, pad_edge=False)
        for reason, count in sorted(rejections.items(), key=lambda item: -item[1]):
            table.add_row(reason, str(count))
        console.print(table)


def _download(client: Client, done: dict[str, Any], folder: Path) -> None:
    """Every file, checked against its hash; the manifest last, as it was written."""
    wanted = {path: known["sha256"] for path, known in done["manifest"]["files"].items()}
    for path in wanted:
        client.export_file(done["id"], path, folder / path)
    sums = folder / "SHA256SUMS"
    for line in sums.read_text().splitlines() if sums.is_file() else ():
        digest, _, path = line.partition("  ")
        wanted[path] = digest
        client.export_file(done["id"], path, folder / path)
    for path, digest in wanted.items():
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            raise fail(f"{folder / path} is not what was exported: download it again.")
    for path in ("dataset_card.md", "README.md", "manifest.json"):
        client.export_file(done["id"], path, folder / path)
    console.print(f"{len(wanted) + 3} files in {folder}", highlight=False)


def finetune(
    export_id: Annotated[
        list[str] | None, typer.Option("--export", help="An export; new ones by default.")
    ] = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    frozen: Annotated[int | None, typer.Option(help="Blocks at the front that are not tuned.")] = None,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Train the draft model on exports, and wait for the version that comes of it."""
    options = {"exports": export_id or None, "epochs": epochs, "learning_rate": learning_rate, "frozen": frozen}
    client = Client(url, key)
    with refusals():
        done = _wait(
            client.start_finetune({name: value for name, value in options.items() if value is not None}),
            client.finetune,
        )
        made = done["report"]["version_id"]
        _table([version for version in client.versions() if version["id"] == made])


@versions.command("list")
def list_(url: Url = LOCAL, key: Key = None) -> None:
    """All versions, newest first."""
    with refusals():
        _table(Client(url, key).versions())


@versions.command()
def promote(version_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Have a version draft all new jobs."""
    _move(version_id, "promote", url, key)


@versions.command()
def rollback(version_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Give a version no more jobs."""
    _move(version_id, "rollback", url, key)


def _move(version_id: str, where: str, url: str, key: str | None) -> None:
    with refusals():
        _table([Client(url, key).move_version(version_id, where)])


def _table(found: list[dict[str, Any]]) -> None:
    table = listing("version", "no.", "state", "%", "CER", "before", "jobs", "agreement", "why")
    for version in found:
        cer, record = version["metrics"]["cer"], version["record"]
        agreement = "-" if record["agreement"] is None else f"{record['agreement']:.3f}"
        table.add_row(
            version["id"],
            str(version["number"]),
            version["state"],
            str(version["stage"]),
            *("-" if cer.get(name) is None else f"{cer[name]:.3f}" for name in ("export", "base")),
            str(record["jobs"]),
            agreement,
            version["reason"] or "",
        )
    console.print(table)
