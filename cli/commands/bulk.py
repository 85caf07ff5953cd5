"""``longhand bulk`` and ``transcripts``: the same with many recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from cli.command import ExitCode, Failed, Output, command, exit_code_of, listing
from longhand import Client, LonghandError
from longhand.types import BulkAction, BulkResult, JobFilter

app = typer.Typer()

ACTIONS = get_args(BulkAction)

Jobs = Annotated[list[str] | None, typer.Argument(help="Ids of jobs.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help="status=, q=, tag= or collection=, instead of ids; several narrow it."),
]
Search = Annotated[str | None, typer.Option("--search", help="What the saved search of this name finds.")]


@command(app)
def bulk(
    client: Client,
    action: Annotated[str, typer.Argument(help=", ".join(ACTIONS))],
    jobs: Jobs = None,
    where: Where = None,
    search: Search = None,
    tag: Annotated[list[str] | None, typer.Option(help="For tag and untag; repeatable.")] = None,
    collection: Annotated[str | None, typer.Option(help="Id, for collect and take_out.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what --where or --search finds.")] = False,
) -> Output:
    """Tag, collect, stop, retry or delete many recordings; says what became of each."""
    if action not in ACTIONS:
        raise Failed(f"There is no action {action!r}: {', '.join(ACTIONS)}.", ExitCode.USAGE)
    selected = _selected(client, jobs, where, search)
    if action == "delete" and not jobs and not yes:
        raise Failed("Recordings that are not named are deleted with --yes alone.", ExitCode.USAGE)
    found: list[BulkResult] = []
    try:
        for result in client.jobs.bulk(
            cast(BulkAction, action), tags=tag or (), collection=collection, **selected
        ):
            found.append(result)
    except LonghandError as error:
        if not found:
            raise
        raise Failed(f"{error} Of those before: {_counted(found)}.", exit_code_of(error)) from error
    table = listing("job", "outcome", "why")
    for result in found:
        table.add_row(result["job_id"], result["outcome"], result["error"]["message"] if result["error"] else "")
    table.caption = _counted(found)
    failed = any(result["outcome"] == "failed" for result in found)
    return Output(found, table, ExitCode.FAILED if failed else ExitCode.DONE)


def _counted(results: Iterable[BulkResult]) -> str:
    counts = Counter(result["outcome"] for result in results)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


@command(app)
def transcripts(
    client: Client,
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The zip to write.")],
    jobs: Jobs = None,
    where: Where = None,
    search: Search = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="As of `longhand transcript`.")] = "txt",
) -> Output:
    """Write transcripts of many recordings to a zip."""
    try:
        out.write_bytes(client.jobs.transcripts(format=format_, **_selected(client, jobs, where, search)))
    except OSError as error:
        raise Failed(f"{out} cannot be written: {error.strerror}.") from error
    return Output({"file": str(out)}, str(out))


def _selected(
    client: Client, jobs: list[str] | None, where: list[str] | None, search: str | None
) -> dict[str, Any]:
    """Raises Failed unless just one is given."""
    if sum(map(bool, (jobs, where, search))) != 1:
        raise Failed("Name jobs, or say which by --where or --search.", ExitCode.USAGE)
    if jobs:
        return {"jobs": jobs}
    if search is None:
        return {"matching": _filter(where or [])}
    for saved in client.searches.list():
        if saved["name"] == search:
            return {"search": saved["id"]}
    raise Failed(f"There is no saved search {search!r}.")


def _filter(where: list[str]) -> JobFilter:
    """Raises Failed."""
    given: dict[str, str] = {}
    statuses: list[str] = []
    for pair in where:
        name, _, value = pair.partition("=")
        if name not in ("status", "q", "tag", "collection") or not value:
            raise Failed(f"--where takes status=, q=, tag= and collection=, and not {pair!r}.", ExitCode.USAGE)
        if name == "status":
            statuses += [each for each in value.split(",") if each]
        elif name in given:
            raise Failed(f"--where takes one {name}=, and there are two.", ExitCode.USAGE)
        else:
            given[name] = value
    return cast(JobFilter, {**given, "status": statuses})
