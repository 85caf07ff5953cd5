"""``longhand export``, ``longhand finetune``, ``longhand versions``: training data and tuned models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from cli.command import ExitCode, Failed, Output, command, errors, listing, parse_options, table_of
from longhand import Client
from longhand.types import Export, Version

app = typer.Typer()
versions = typer.Typer(help="Tuned models: what is tried, what serves, what was learnt.", no_args_is_help=True)


class Role(StrEnum):
    DRAFT = "draft"
    REFINED = "refined"


FilterOptions = Annotated[list[str] | None, typer.Option("--filter", "-f", help="NAME=VALUE, repeatable.")]


@command(app)
def export(
    client: Client,
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
) -> Output:
    """Make training data of a day's transcripts; prints what was taken, and why the rest was not."""
    if (since is None) != (until is None):
        raise Failed("Give both --since and --until.", ExitCode.USAGE)
    started = client.exports.create(
        date=date.date().isoformat() if date else None,
        since=f"{since.isoformat()}Z" if since else None,
        until=f"{until.isoformat()}Z" if until else None,
        dry_run=dry_run,
        filters=parse_options(filter_ or []),
        cleaning=dict.fromkeys(clean or [], True),
    )
    with errors.status("exporting"):
        exported = client.exports.wait(started["id"])
    if to is not None and exported["prefix"]:
        _download(client, exported, to)
    return Output(exported, Group(*_manifest(exported["manifest"] or {}), exported["prefix"] or ""))


def _manifest(manifest: Mapping[str, Any]) -> Iterable[Table]:
    splits = table_of("", "clips", "hours", "people")
    for name, split in manifest["splits"].items():
        splits.add_row(name, str(split["clips"]), f"{split['hours']:.3f}", str(split["persons"]))
    yield splits
    if rejections := manifest["rejections"]:
        rejected = table_of("rejected for", "segments")
        for reason, count in sorted(rejections.items(), key=lambda item: -item[1]):
            rejected.add_row(reason, str(count))
        yield rejected


def _download(client: Client, export: Export, folder: Path) -> None:
    """Download every file and check its hash; the manifest comes last, as when it was written. Raises Failed."""
    hashes = {path: file["sha256"] for path, file in (export["manifest"] or {})["files"].items()}
    for path in hashes:
        client.exports.download(export["id"], path, _inside(folder, path))
    sums = folder / "SHA256SUMS"
    for line in sums.read_text().splitlines() if sums.is_file() else ():
        digest, _, path = line.partition("  ")
        hashes[path] = digest
        client.exports.download(export["id"], path, _inside(folder, path))
    for path, digest in hashes.items():
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            raise Failed(f"{folder / path} is not what was exported: download it again.")
    for path in ("dataset_card.md", "README.md", "manifest.json"):
        client.exports.download(export["id"], path, _inside(folder, path))
    errors.print(f"{len(hashes) + 3} files in {folder}")


def _inside(folder: Path, path: str) -> Path:
    """The local path of a file that the server names. Raises Failed for one outside, also through links."""
    root = folder.resolve()
    target = root if "\0" in path else (root / path).resolve()
    if target == root or not target.is_relative_to(root):
        raise Failed(f"The server names a file outside of {folder}: {path!r}. Nothing more was downloaded.")
    return target


@command(app)
def finetune(
    client: Client,
    role: Annotated[Role, typer.Option(help="The model that is tuned.")] = Role.DRAFT,
    export_id: Annotated[
        list[str] | None, typer.Option("--export", help="An export; new ones by default.")
    ] = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    frozen: Annotated[int | None, typer.Option(help="Blocks at the front that are not tuned.")] = None,
) -> Output:
    """Train a model on exports, and wait for the resulting version."""
    started = client.finetunes.create(
        role=role.value, exports=export_id or None, epochs=epochs, learning_rate=learning_rate, frozen=frozen
    )
    with errors.status("tuning"):
        finetuned = client.finetunes.wait(started["id"])
    version = client.versions.get((finetuned["report"] or {})["version_id"])
    return Output(version, _table([version]))


@command(versions, "list")
def list_(client: Client) -> Output:
    """All versions, newest first."""
    found = list(client.versions.list())
    return Output(found, _table(found))


@command(versions)
def report(client: Client, weeks: Annotated[int, typer.Option(min=1, max=104, help="Until now.")] = 12) -> Output:
    """Error rates of corrected recordings by week, voice and language; what was learnt; and what it cost."""
    found = client.versions.report(weeks=weeks)
    tables = []
    for heading in ("weeks", "voices", "languages"):
        rates = table_of(heading, "wrong characters", "minutes")
        for row in found[heading]:
            rates.add_row(row["name"], f"{row['rate']:.1%}", f"{row['minutes']:.1f}")
        tables.append(rates)
    learnt = table_of("learnt by", "was", "is", "job", "at")
    for clip in found["learnt"]:
        at = f"{clip['start']:.1f} s"
        learnt.add_row(f"version {clip['version']}", clip["wrong"], clip["right"], clip["job_id"], at)
    cost = table_of("cost of", "role", "minutes")
    for version in found["cost"]:
        cost.add_row(f"version {version['version']}", version["role"], f"{version['minutes']:.1f}")
    return Output(found, Group(*(table for table in (*tables, learnt, cost) if table.row_count)))


@command(versions)
def promote(client: Client, version_id: str) -> Output:
    """Have a version draft, or refine, all new jobs."""
    version = client.versions.promote(version_id)
    return Output(version, _table([version]))


@command(versions)
def rollback(client: Client, version_id: str) -> Output:
    """Give a version no more jobs."""
    version = client.versions.roll_back(version_id)
    return Output(version, _table([version]))


def _table(rows: Iterable[Version]) -> Table:
    table = listing("version", "no.", "role", "state", "%", "CER", "before", "jobs", "agreement", "why")
    for version in rows:
        cer, record = version["metrics"]["cer"], version["record"]
        agreement = "-" if record["agreement"] is None else f"{record['agreement']:.3f}"
        table.add_row(
            version["id"],
            str(version["number"]),
            version["role"],
            version["state"],
            str(version["stage"]),
            *("-" if cer.get(name) is None else f"{cer[name]:.3f}" for name in ("export", "base")),
            str(record["jobs"]),
            agreement,
            version["reason"] or "",
        )
    return table
