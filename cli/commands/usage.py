"""``longhand usage``: how much audio was processed, by day, key, model or stage."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console

GROUPINGS = {"day": ("day",), "key": ("key", "prefix"), "model": ("engine", "model"), "stage": ()}
"""The columns of each, beside those that every row has."""


def usage(
    from_: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day in UTC; by default that of the month."),
    ] = None,
    to: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included; by default today.")
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option("--group-by", "-g", help="day, key, model or stage; repeatable.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Another tenant, for who runs the server.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with exact figures.")] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """How much audio was processed, and how much uploaded."""
    groupings = group_by or ["day"]
    wanted: dict[str, Any] = {"group_by": groupings}
    wanted |= {name: day.date().isoformat() for name, day in (("from", from_), ("to", to)) if day is not None}
    if tenant is not None:
        wanted["tenant"] = tenant
    client = Client(url, key)
    with api_errors_as_exit():
        if csv:
            typer.echo(client.usage_csv(wanted), nl=False)
        else:
            console.print(_table(client.usage(wanted)))


def _table(report: dict[str, Any]) -> Table:
    columns = [column for grouping in report["group_by"] for column in GROUPINGS[grouping]]
    table = Table(box=None, pad_edge=False)
    for heading in (*columns, "stage"):
        table.add_column(heading)
    for heading in ("jobs", "hours", "MB"):
        table.add_column(heading, justify="right")
    for row in report["data"]:
        size = f"{row['bytes'] / 1e6:.1f}" if row["bytes"] else "-"
        names = [str(row[column] or "-") for column in (*columns, "stage")]
        table.add_row(*names, str(row["jobs"]), f"{row['audio_seconds'] / 3600:.3f}", size)
    return table
