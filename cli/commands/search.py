"""``longhand search``: words in all transcripts of a running server."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from cli.command import Output, command
from longhand import Client, Hit

app = typer.Typer()


@command(app)
def search(
    client: Client,
    query: Annotated[str, typer.Argument(help='All of these words: budget "a phrase" begin* -without.')],
    speaker: Annotated[str | None, typer.Option(help="Who says it: a name, or a label.")] = None,
    from_: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the recordings, in UTC.")
    ] = None,
    to: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")] = None,
    source: Annotated[str | None, typer.Option(help="Label of the recordings' source.")] = None,
    language: Annotated[str | None, typer.Option(help="Code of the segments' language, such as en.")] = None,
    tag: Annotated[str | None, typer.Option(help="Of the recordings.")] = None,
    collection: Annotated[str | None, typer.Option(help="Id of a collection that they are in.")] = None,
    meaning: Annotated[
        bool,
        typer.Option("--meaning", help="Find what means much the same as a question or sentence, in English."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1)] = 20,
) -> Output:
    """Find words in all transcripts, best first; a search that begins with - goes behind --."""
    hits = list(
        client.search(
            query,
            speaker=speaker,
            first=from_.date().isoformat() if from_ else None,
            last=to.date().isoformat() if to else None,
            source=source,
            language=language,
            tag=tag,
            collection=collection,
            meaning=meaning,
            limit=limit,
        )
    )
    if not hits:
        return Output(hits, "Nothing was found.")
    runs = groupby(hits, key=lambda hit: (hit["job_id"], hit["title"] or hit["filename"]))
    return Output(hits, Group(*(line for (job_id, name), run in runs for line in _lines(job_id, name, list(run)))))


def _lines(job_id: str, name: str, hits: list[Hit]) -> list[Text]:
    """A recording, and below it where it has what was looked for."""
    return [Text.assemble((name, "bold"), f"  {job_id}"), *map(_line, hits)]


def _line(hit: Hit) -> Text:
    text = Text(hit["text"])
    for start, end in hit["highlights"]:
        text.stylize("bold yellow", start, end)
    minutes, seconds = divmod(int(hit["play_from"]), 60)
    hours, minutes = divmod(minutes, 60)
    who = hit["speaker_name"] or hit["speaker"]
    begin = f"  {hours}:{minutes:02}:{seconds:02}  " + (f"{who}: " if who else "")
    return Text(begin) + text
