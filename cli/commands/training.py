"""``longhand export``, ``longhand finetune``, ``longhand versions``: training data and tuned draft models."""

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
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console, fail, listing, parse_options

versions = typer.Typer(help="Tuned draft models: what is tried, what serves.", no_args_is_help=True)

ACTIVE = ("queued", "processing")
FilterOptions = Annotated[list[str] | None, typer.Option("--filter", "-f", help="NAME=VALUE, repeatable.")]


def export(
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in UTC; yesterday by default.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="With --until, instead of a day; in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="With --since.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be exported; write nothing.")
    ] = False,
    filter_: FilterOptions = None,
    clean: Annotated[list[str] | None, typer.Option(help="A step of cleaning: simplify, mask.")] = None,
    to: Annotated[Path | None, typer.Option(file_okay=False, help="Folder to download the export to.")] = None,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Make training data of a day's transcripts; prints what was taken, and why the rest was not."""
    request: dict[str, Any] = {"dry_run": dry_run, "filters": parse_options(filter_ or [])}
    request["cleaning"] = dict.fromkeys(clean or [], True)
    if date is not None:
        request["date"] = date.date().isoformat()
    if since is not None and until is not None:
        request |= {"since": f"{since.isoformat()}Z", "until": f"{until.isoformat()}Z"}
    elif since is not None or until is not None:
        raise fail("Give both --since and --until.")
    client = Client(url, key)
    with api_errors_as_exit():
        exported = _wait(client.start_export(request), client.export)
        _print_manifest(exported["manifest"])
        if exported["prefix"]:
            typer.echo(exported["prefix"])
        if to is not None and exported["prefix"]:
            _download(client, exported, to)


def _wait(job: dict[str, Any], fetch: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Poll the job until it is finished. A failure ends the command with its message."""
    with console.status("queued") as status:
        while job["status"] in ACTIVE:
            status.update(job["status"])
            time.sleep(0.5)
            job = fetch(job["id"])
    if job["error"]:
        raise fail(f"{job['error']['message']} ({job['error']['code']})")
    if job["status"] != "completed":
        raise fail(f"It was {job['status']}.")
    return job


def _print_manifest(manifest: dict[str, Any]) -> None:
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


def _download(client: Client, export: dict[str, Any], folder: Path) -> None:
    """Download every file and check its hash; the manifest comes last, as when it was written."""
    hashes = {path: file["sha256"] for path, file in export["manifest"]["files"].items()}
    for path in hashes:
        client.export_file(export["id"], path, _inside(folder, path))
    sums = folder / "SHA256SUMS"
    for line in sums.read_text().splitlines() if sums.is_file() else ():
        digest, _, path = line.partition("  ")
        hashes[path] = digest
        client.export_file(export["id"], path, _inside(folder, path))
    for path, digest in hashes.items():
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            raise fail(f"{folder / path} is not what was exported: download it again.")
    for path in ("dataset_card.md", "README.md", "manifest.json"):
        client.export_file(export["id"], path, _inside(folder, path))
    console.print(f"{len(hashes) + 3} files in {folder}", highlight=False)


def _inside(folder: Path, path: str) -> Path:
    """The local path of a file that the server names. Rejects paths outside the folder, also through links."""
    root = folder.resolve()
    target = root if "\0" in path else (root / path).resolve()
    if target == root or not target.is_relative_to(root):
        raise fail(f"The server names a file outside of {folder}: {path!r}. Nothing more was downloaded.")
    return target


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
    """Train the draft model on exports, and wait for the resulting version."""
    options = {"exports": export_id or None, "epochs": epochs, "learning_rate": learning_rate, "frozen": frozen}
    client = Client(url, key)
    with api_errors_as_exit():
        finetuned = _wait(
            client.start_finetune({name: value for name, value in options.items() if value is not None}),
            client.finetune,
        )
        version_id = finetuned["report"]["version_id"]
        _print_versions([version for version in client.versions() if version["id"] == version_id])


@versions.command("list")
def list_(url: Url = LOCAL, key: Key = None) -> None:
    """All versions, newest first."""
    with api_errors_as_exit():
        _print_versions(Client(url, key).versions())


@versions.command()
def promote(version_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Have a version draft all new jobs."""
    _change_state(version_id, "promote", url, key)


@versions.command()
def rollback(version_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Give a version no more jobs."""
    _change_state(version_id, "rollback", url, key)


def _change_state(version_id: str, action: str, url: str, key: str | None) -> None:
    with api_errors_as_exit():
        _print_versions([Client(url, key).move_version(version_id, action)])


def _print_versions(rows: list[dict[str, Any]]) -> None:
    table = listing("version", "no.", "state", "%", "CER", "before", "jobs", "agreement", "why")
    for version in rows:
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
