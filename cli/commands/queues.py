"""``longhand queues``: what waits, who works, and when it will be done."""

from __future__ import annotations

import typer

from cli.command import Output, command, table_of
from longhand import Client

app = typer.Typer()


@command(app)
def queues(client: Client) -> Output:
    """What waits and who works, by kind of step."""
    report = client.queues.show()
    table = table_of("queue", "workers", "kind", "waiting", "delayed", "running", "oldest", "drained in")
    for kind, row in sorted(report["kinds"].items(), key=lambda item: (item[1]["queue"], item[0])):
        workers = report["queues"][row["queue"]]["workers"]
        table.add_row(
            row["queue"],
            "?" if workers is None else str(workers),
            kind,
            *(str(row["waiting"]), str(row["delayed"]), str(row["running"])),
            f"{row['oldest_seconds']:.0f} s",
            "?" if row["drain_seconds"] is None else f"{row['drain_seconds']:.0f} s",
        )
    return Output(report, table)
