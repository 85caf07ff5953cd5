"""``longhand backup``, ``restore``, ``verify`` and ``disk``: the data of a stack."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from cli.command import Output, command
from cli.stack.stack import environment_of
from db.settings import get_settings

app = typer.Typer()

DataDir = Annotated[Path | None, typer.Option(help="Of the local stack that is meant, if any runs.")]


@app.command()
def backup(folder: Path, data_dir: DataDir = None) -> None:
    """Save the database and every object to a folder; a running stack goes on meanwhile."""
    _run(data_dir, "save", str(folder))


@app.command()
def restore(folder: Path, data_dir: DataDir = None) -> None:
    """Bring a saved database and its objects into a fresh stack."""
    _run(data_dir, "restore", str(folder))


@app.command()
def verify(data_dir: DataDir = None) -> None:
    """Whether every object that rows of jobs name is there, as after a restore to a point in time."""
    _run(data_dir, "verify")


def _run(data_dir: Path | None, *arguments: str) -> None:
    """Against the stack that runs in the data folder, or the servers that the environment names."""
    environment = os.environ | environment_of(data_dir or get_settings().data_dir)
    command = [sys.executable, "-m", "db.backup", *arguments]
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603  (our own command line)
    if done.returncode:
        raise typer.Exit(done.returncode)


@command(app)
def disk(data_dir: Annotated[Path | None, typer.Option(help="Where data and logs are kept.")] = None) -> Output:
    """Disk usage of a local stack, and free space."""
    folder = data_dir or get_settings().data_dir
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    sizes = {part.name: _size(part) for part in parts}
    free = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "size"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for name, size in [*sizes.items(), ("free", free)]:
        table.add_row(name, decimal(size))
    least = get_settings().min_free_bytes
    warning = f"Uploads are refused while less than {decimal(least)} is free." if free < least else ""
    return Output({"parts": sizes, "free": free}, Group(table, Text(warning, "red")) if warning else table)


def _size(folder: Path) -> int:
    """Bytes on the disk, without files that vanish meanwhile."""
    total = 0
    for root, _, names in os.walk(folder, onerror=lambda error: None):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118  (a hundred thousand files)
            except OSError:
                continue
    return total
