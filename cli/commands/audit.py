"""``longhand audit``: who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.command import Output, command, table_of
from longhand import Client

app = typer.Typer()

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@command(app)
def audit(
    client: Client,
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIMES, help="Not before this time, in the zone of this machine."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=TIMES, help="Before this time, in the same zone.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="The beginning of who acted, such as a key's name.")] = None,
    action: Annotated[str | None, typer.Option(help="The beginning of what was done, such as DELETE.")] = None,
    target: Annotated[str | None, typer.Option(help="The id of a row.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many; more with --csv.")] = 50,
    csv: Annotated[bool, typer.Option("--csv", help="All that match, as CSV.")] = False,
) -> Output | None:
    """Who did what to which row, newest first. The key needs the scope `admin`."""
    wanted: Any = {
        "since": since and since.astimezone().isoformat(),
        "until": until and until.astimezone().isoformat(),
        **{"actor": actor, "action": action, "target": target},
    }
    if csv:
        for page in client.audit.csv(**wanted):
            typer.echo(page, nl=False)
        return None
    found = list(client.audit.list(**wanted, limit=limit))
    table = table_of("time", "actor", "address", "action", "target", "status")
    for entry in found:
        times_done = f" x {entry['count']}" if entry["count"] > 1 else ""
        table.add_row(
            datetime.fromisoformat(entry["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            escape(entry["actor"]),
            escape(entry["address"] or "-"),
            entry["action"] + times_done,
            escape(entry["target"] or "-"),
            str(entry["status"] or "-"),
        )
    return Output(found, table)
