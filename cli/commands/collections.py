"""``longhand collections``: recordings that belong together, and their transcripts in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.command import Failed, Output, command, listing
from longhand import Client

app = typer.Typer(help="Recordings that belong together.", no_args_is_help=True)

Jobs = Annotated[list[str], typer.Argument(help="Ids of jobs.")]


@command(app, "list")
def list_(client: Client) -> Output:
    """All collections."""
    table = listing("collection", "name", "recordings")
    found = list(client.collections.list())
    for collection in found:
        table.add_row(collection["id"], collection["name"], str(collection["recordings"]))
    return Output(found, table)


@command(app)
def create(client: Client, name: str) -> Output:
    """Make a collection; prints its id."""
    made = client.collections.create(name)
    return Output(made, made["id"])


@command(app)
def add(client: Client, collection_id: str, jobs: Jobs) -> Output:
    """Put jobs into a collection."""
    return Output(client.collections.change(collection_id, add=jobs))


@command(app)
def remove(client: Client, collection_id: str, jobs: Jobs) -> Output:
    """Take jobs out of a collection."""
    return Output(client.collections.change(collection_id, remove=jobs))


@command(app)
def delete(client: Client, collection_id: str) -> Output:
    """Forget a collection; its recordings stay."""
    client.collections.delete(collection_id)
    return Output({"id": collection_id})


@command(app)
def export(
    client: Client,
    collection_id: str,
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The zip to write.")],
    format_: Annotated[str, typer.Option("--format", "-f", help="As of `longhand transcript`.")] = "txt",
) -> Output:
    """Write the transcripts of a collection to a zip."""
    try:
        out.write_bytes(client.collections.transcripts(collection_id, format_))
    except OSError as error:
        raise Failed(f"{out} cannot be written: {error.strerror}.") from error
    return Output({"file": str(out)}, str(out))
