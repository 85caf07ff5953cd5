"""``longhand submit``, ``watch``, ``jobs``, ``transcript`` and so on: a running server from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from cli.command import ExitCode, Failed, Output, Server, command, console, listing, parse_options, print_json
from cli.watch import View, follow
from longhand import Client, Event, JobOptions
from longhand.types import JobChange

app = typer.Typer()

Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, repeatable.")]


@command(app)
def submit(
    client: Client,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    option: Options = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    as_json: bool = False,
) -> Output | None:
    """Upload a recording; prints the job's id."""
    job = client.jobs.submit(file, cast(JobOptions, parse_options(option or [])))
    if not watch:
        return Output(job, job["id"])
    if not as_json:
        typer.echo(job["id"])
    show(client.jobs.events(job["id"]), as_json=as_json)
    return None


@command(app)
def watch(
    client: Client,
    job_id: str,
    after: Annotated[int, typer.Option(help="Skip events up to this number.")] = 0,
    as_json: bool = False,
) -> None:
    """Follow a job in the terminal; with --json, an event a line."""
    show(client.jobs.events(job_id, after=after), as_json=as_json)


def show(events: Iterable[Event], *, as_json: bool = False) -> None:
    """Show a job to its end. Raises Failed if that is not its completion."""
    if not as_json:
        view = follow(events, console)
    else:
        view = View()
        for event in events:
            view.apply(event)
            print_json(asdict(event))
    if view.outcome == "completed":
        return
    if view.outcome == "cancelled":
        raise Failed("The job was cancelled.")
    error = view.error or {"code": "unknown", "message": "its events ended early"}
    raise Failed(f"The job failed ({error['code']}): {error['message']}")


@command(app)
def cancel(client: Client, job_id: str) -> Output:
    """Stop a job; what is drafted stays readable."""
    return Output(client.jobs.cancel(job_id))


@command(app)
def retry(client: Client, job_id: str) -> Output:
    """Run a failed or cancelled job again, from what is done."""
    return Output(client.jobs.retry(job_id))


@command(app)
def delete(client: Client, job_id: str) -> Output:
    """Remove a job with its audio and transcript."""
    client.jobs.delete(job_id)
    return Output({"id": job_id})


@command(app)
def describe(
    client: Client,
    job_id: str,
    title: Annotated[str | None, typer.Option(help="What to call it; empty removes it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of its tags; repeatable, empty removes them.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from; empty removes it.")] = None,
) -> Output:
    """Give a recording a title, tags, or another source."""
    change: JobChange = {}
    if title is not None:
        change["title"] = title or None
    if tag is not None:
        change["tags"] = [each for each in tag if each]
    if source is not None:
        change["source"] = source or None
    if not change:
        raise Failed("Say what: --title, --tag or --source.", ExitCode.USAGE)
    return Output(client.jobs.describe(job_id, change))


@command(app)
def share(
    server: Server,
    job_id: str,
    days: Annotated[float, typer.Option(min=0.001, max=366, help="How long the link works.")] = 7,
    audio: Annotated[bool, typer.Option(help="Whether the recording can be played, too.")] = True,
) -> Output:
    """Make a link to a job's transcript, for people without a key; prints its address."""
    with server.client() as client:
        link = client.jobs.share(job_id, expires_in=round(days * 24 * 3600), audio=audio)
    return Output(link, f"{server.url.rstrip('/')}{link['path']}")


@command(app)
def jobs(
    client: Client,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    collection: Annotated[str | None, typer.Option(help="In the collection with this id.")] = None,
) -> Output:
    """The newest jobs."""
    table = listing("job", "status", "%", "duration", "file")
    found = list(client.jobs.list(tag=tag, collection=collection, limit=limit))
    for job in found:
        duration = job["audio"]["duration"]
        length = f"{duration:.0f} s" if duration else "-"
        percent = str(job["progress"]["percent"])
        table.add_row(job["id"], job["status"], percent, length, job["title"] or job["audio"]["filename"])
    return Output(found, table)


@command(app)
def transcript(
    client: Client,
    job_id: str,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="txt, md, docx, srt, vtt, karaoke, json, csv, tsv, rttm, ctm or textgrid.",
        ),
    ] = "txt",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="NAME=VALUE, repeatable, such as max_lines=1 or speaker_names=false."),
    ] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write to this file.")] = None,
    as_json: bool = False,
) -> None:
    """Print a job's transcript, drafts included while it runs, or write it to a file; --json is --format json."""
    format_ = "json" if as_json else format_
    body = client.jobs.transcript_as(job_id, format_, parse_options(option or []))
    if out is not None:
        try:
            out.write_bytes(body)
        except OSError as error:
            raise Failed(f"{out} cannot be written: {error.strerror}.") from error
    elif b"\0" in body and sys.stdout.isatty():
        raise Failed(f"{format_} is not for a terminal: name a file with --out.")
    else:
        typer.echo(body, nl=False)
