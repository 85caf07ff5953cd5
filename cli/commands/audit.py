"""``longhand audit``: who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def audit(
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIMES, help="Not before this time, in the zone of this machine."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=TIMES, help="Before this time, in the same zone.")
    ] = None,
    actor: Annotated[str, typer.Option(help="The beginning of who acted, such as a key's name.")] = "",
    action: Annotated[str, typer.Option(help="The beginning of what was done, such as DELETE.")] = "",
    target: Annotated[str, typer.Option(help="The id of a row.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many; more with --csv.")] = 50,
    csv: Annotated[bool, typer.Option("--csv", help="All that match, as CSV.")] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Who did what to which row, newest first. The key needs the scope `admin`."""
    times = {name: time.astimezone().isoformat() for name, time in (("from", since), ("to", until)) if time}
    texts = {"actor": actor, "action": action, "target": target}
    wanted = times | {name: text for name, text in texts.items() if text}
    client = Client(url, key)
    with api_errors_as_exit():
        if csv:
            for number, page in enumerate(client.audit_csv(wanted)):
                typer.echo(page if number == 0 else page.partition("\n")[2], nl=False)
            return
        table = Table("time", "actor", "address", "action", "target", "status", box=None, pad_edge=False)
        for entry in client.audit(wanted, limit):
            times_done = f" x {entry['count']}" if entry["count"] > 1 else ""
            table.add_row(
                datetime.fromisoformat(entry["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                escape(entry["actor"]),
                escape(entry["address"] or "-"),
                entry["action"] + times_done,
                escape(entry["target"] or "-"),
                str(entry["status"] or "-"),
            )
    console.print(table)
