"""``longhand usage``: how much audio was processed, by day, key, model or stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from cli.command import Output, command
from longhand import Client

app = typer.Typer()

GROUPINGS = {"day": ("day",), "key": ("key", "prefix"), "model": ("engine", "model"), "stage": ()}
"""The columns of each, beside those that every row has."""


@command(app)
def usage(
    client: Client,
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
) -> Output:
    """How much audio was processed, and how much uploaded."""
    wanted: Any = {
        "first": from_ and from_.date().isoformat(),
        "last": to and to.date().isoformat(),
        "group_by": group_by or ["day"],
        "tenant": tenant,
    }
    if csv:
        text = client.usage.csv(**wanted)
        return Output(text, text.rstrip("\r\n"))
    report = cast("Mapping[str, Any]", client.usage.report(**wanted))
    return Output(report, _table(report))


def _table(report: Mapping[str, Any]) -> Table:
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
