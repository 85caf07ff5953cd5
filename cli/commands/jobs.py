"""``longhand submit``, ``watch``, ``jobs``, ``transcript`` and so on: a running server from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.client import ApiError, Client
from cli.watch import View, follow

# names and messages of others are text, not markup
console = Console(markup=False)

Url = Annotated[str, typer.Option("--url", envvar="LONGHAND_URL", help="The server.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="LONGHAND_KEY",
        help="An API key; local users can read it here, not in the variable.",
    ),
]
LOCAL = "http://127.0.0.1:8000"


def fail(message: str) -> typer.Exit:
    console.print(message, style="red", markup=False, soft_wrap=True)
    return typer.Exit(1)


@contextmanager
def api_errors_as_exit() -> Iterator[None]:
    """Ends the command with the message of an API error."""
    try:
        yield
    except ApiError as error:
        raise fail(str(error)) from error


def listing(*headings: str) -> Table:
    """A table whose first column is an id, which is never cut short: it is there to be copied."""
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, no_wrap=place == 0, min_width=0 if place else 36)
    return table


def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, repeatable.")] = None,
    watch: Annotated[bool, typer.Option(help="Follow the job to its end.")] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Upload a recording; prints the job's id."""
    client = Client(url, key)
    with api_errors_as_exit():
        job = client.submit(file, parse_options(option or []))
        console.print(job["id"], highlight=False)
        if watch:
            finish(follow(client.events(job["id"]), console))


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a value that is JSON is taken as such."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise fail(f"The option {pair!r} has no value; write NAME=VALUE.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def watch(
    job_id: str,
    after: Annotated[int, typer.Option(help="Skip events up to this number.")] = 0,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Follow a job in the terminal."""
    with api_errors_as_exit():
        finish(follow(Client(url, key).events(job_id, after), console))


def finish(view: View) -> None:
    """Say how the job ended; an end other than completion is a failure of the command."""
    if view.outcome == "completed":
        return
    if view.outcome == "cancelled":
        raise fail("The job was cancelled.")
    error = view.error or {"code": "unknown", "message": "its events ended early"}
    raise fail(f"The job failed ({error['code']}): {error['message']}")


def cancel(job_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Stop a job; what is drafted stays readable."""
    _change(lambda client: client.cancel(job_id), url, key)


def retry(job_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Run a failed or cancelled job again, from what is done."""
    _change(lambda client: client.retry(job_id), url, key)


def delete(job_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Remove a job with its audio and transcript."""
    _change(lambda client: client.delete(job_id), url, key)


def _change(change: Callable[[Client], object], url: str, key: str | None) -> None:
    with api_errors_as_exit():
        change(Client(url, key))


def jobs(limit: int = 20, url: Url = LOCAL, key: Key = None) -> None:
    """The newest jobs."""
    table = listing("job", "status", "%", "duration", "file")
    with api_errors_as_exit():
        for job in Client(url, key).jobs(limit):
            duration = job["audio"]["duration"]
            length = f"{duration:.0f} s" if duration else "-"
            percent = str(job["progress"]["percent"])
            table.add_row(job["id"], job["status"], percent, length, job["audio"]["filename"])
    console.print(table)


def transcript(
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
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Print a job's transcript, drafts included while it runs, or write it to a file."""
    with api_errors_as_exit():
        body = Client(url, key).transcript_file(job_id, format_, parse_options(option or []))
    if out is not None:
        try:
            out.write_bytes(body)
        except OSError as error:
            raise fail(f"{out} cannot be written: {error.strerror}.") from error
    elif b"\0" in body and sys.stdout.isatty():
        raise fail(f"{format_} is not for a terminal: name a file with --out.")
    else:
        typer.echo(body, nl=False)
