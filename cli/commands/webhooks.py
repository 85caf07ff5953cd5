"""``longhand webhooks``: where events are sent, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.command import ExitCode, Failed, Output, command, listing
from cli.commands.keys import seconds
from longhand import Client
from longhand.types import Delivery, Webhook

app = typer.Typer(help="Where events are sent, and what became of it.", no_args_is_help=True)

TEST_SECONDS = 90.0
"""Longer than the request of a test can take, and what may be before it in the queue."""

Grace = Annotated[str, typer.Option(help="How much longer the old one signs too, such as 1h.")]


@command(app)
def add(
    client: Client,
    address: str,
    events: Annotated[
        str,
        typer.Option(
            help="With commas: job.completed, job.failed, job.cancelled, speakers.assigned, reading.completed, "
            "reading.failed, export.completed, export.failed, finetune.completed, finetune.failed."
        ),
    ] = "job.completed,job.failed",
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> Output:
    """Send events of all jobs to an address. Its secret is printed once and can be read nowhere afterwards."""
    made = client.webhooks.create(address, _names(events), description=description)
    # on its own, so that a script can take it
    return Output(made, made["secret"])


@command(app, "list")
def list_(client: Client) -> Output:
    """Webhooks, newest first."""
    table = listing("webhook", "address", "events", "state", "description")
    found = list(client.webhooks.list())
    for row in found:
        table.add_row(row["id"], row["url"], " ".join(row["events"]), _state(row), row["description"] or "")
    return Output(found, table)


@command(app)
def show(client: Client, webhook_id: str) -> Output:
    """One webhook."""
    row = client.webhooks.get(webhook_id)
    return Output(row, _lines(row))


@command(app)
def change(
    client: Client,
    webhook_id: str,
    address: Annotated[str | None, typer.Option(help="Another address.")] = None,
    events: Annotated[str | None, typer.Option(help="Other events, with commas.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
) -> Output:
    """Change its address or events, enable or disable it."""
    row = client.webhooks.change(
        webhook_id,
        url=address,
        events=None if events is None else _names(events),
        disabled=None if enabled is None else not enabled,
    )
    return Output(row, _lines(row))


@command(app)
def delete(client: Client, webhook_id: str) -> Output:
    """Forget a webhook with its secrets and deliveries."""
    client.webhooks.delete(webhook_id)
    return Output({"id": webhook_id})


@command(app)
def rotate(client: Client, webhook_id: str, grace: Grace = "1d") -> Output:
    """Make a new secret of a webhook, and print it."""
    made = client.webhooks.rotate_secret(webhook_id, grace_seconds=seconds(grace))
    return Output({"secret": made}, made)


@command(app)
def secret(client: Client, grace: Grace = "1d") -> Output:
    """Make the tenant's secret anew, which signs what goes to the `webhook` of a job, and print it."""
    made = client.webhooks.rotate_tenant_secret(grace_seconds=seconds(grace))
    return Output({"secret": made}, made)


@command(app, "test")
def send_test(client: Client, webhook_id: str) -> Output:
    """Send `webhook.test`, and say what the receiver answered."""
    deadline = time.monotonic() + TEST_SECONDS
    sent = client.webhooks.test(webhook_id)
    while sent["state"] == "waiting" and time.monotonic() < deadline:
        time.sleep(0.2)
        sent = next((row for row in client.webhooks.deliveries(webhook_id) if row["id"] == sent["id"]), sent)
    if sent["state"] == "delivered":
        return Output(sent, _deliveries([sent]))
    why = "It did not arrive." if sent["state"] == "failed" else "It waits: does a worker of `io` run?"
    return Output(sent, Group(_deliveries([sent]), Text(why, "red")), ExitCode.FAILED)


@command(app)
def deliveries(
    client: Client,
    webhook_id: Annotated[str | None, typer.Argument()] = None,
    job: Annotated[str | None, typer.Option(help="Those to the address that this job names.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
) -> Output:
    """Deliveries to a webhook, or to the address of a job, newest first."""
    if webhook_id is not None and job is None:
        found = list(client.webhooks.deliveries(webhook_id, limit=limit))
    elif job is not None and webhook_id is None:
        found = list(client.webhooks.job_deliveries(job, limit=limit))
    else:
        raise Failed("Name a webhook, or a job with --job.", ExitCode.USAGE)
    return Output(found, _deliveries(found))


@command(app)
def redeliver(client: Client, delivery_id: str) -> Output:
    """Deliver something once more, now, whatever became of it."""
    row = client.webhooks.redeliver(delivery_id)
    return Output(row, _deliveries([row]))


def _names(events: str) -> list[str]:
    return [name.strip() for name in events.split(",") if name.strip()]


def _state(row: Webhook) -> str:
    if row["disabled"]:
        return f"disabled ({row['disabled_reason']})"
    return f"failing since {row['failing_since'][:16]}" if row["failing_since"] else "enabled"


def _lines(row: Webhook) -> str:
    shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in row.items()}
    return "\n".join(f"{name}: {'-' if value is None else value}" for name, value in shown.items())


def _deliveries(rows: Iterable[Delivery]) -> Table:
    table = listing("delivery", "event", "job", "state", "attempts", "last", "next")
    for row in rows:
        last = row["attempts"][-1] if row["attempts"] else None
        table.add_row(
            row["id"],
            row["type"],
            row["job_id"] or "-",
            row["state"],
            str(len(row["attempts"])),
            str((last and (last["status"] or last["error"])) or "-"),
            str(row["next_attempt_at"] or "-")[:19],
        )
    return table
