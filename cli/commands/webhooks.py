"""``longhand webhooks``: where events are sent, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console, fail, listing
from cli.commands.keys import seconds

app = typer.Typer(help="Where events are sent, and what became of it.", no_args_is_help=True)

TEST_SECONDS = 90.0
"""Longer than the request of a test can take, and what may be before it in the queue."""

Grace = Annotated[str, typer.Option(help="How much longer the old one signs too, such as 1h.")]


@app.command()
def add(
    address: str,
    events: Annotated[
        str,
        typer.Option(
            help="With commas: job.completed, job.failed, job.cancelled, speakers.assigned, export.completed, "
            "export.failed, finetune.completed, finetune.failed."
        ),
    ] = "job.completed,job.failed",
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Send events of all jobs to an address. Its secret is printed once and can be read nowhere afterwards."""
    names = [name.strip() for name in events.split(",") if name.strip()]
    with api_errors_as_exit():
        made = Client(url, key).create_webhook({"url": address, "events": names, "description": description})
    # on its own, so that a script can take it
    typer.echo(made["secret"])


@app.command("list")
def list_(url: Url = LOCAL, key: Key = None) -> None:
    """Webhooks, newest first."""
    table = listing("webhook", "address", "events", "state", "description")
    with api_errors_as_exit():
        for row in Client(url, key).webhooks():
            table.add_row(row["id"], row["url"], " ".join(row["events"]), _state(row), row["description"] or "")
    console.print(table)


@app.command()
def show(webhook_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """One webhook."""
    with api_errors_as_exit():
        row = Client(url, key).webhook(webhook_id)
    _print(row)


@app.command()
def change(
    webhook_id: str,
    address: Annotated[str | None, typer.Option(help="Another address.")] = None,
    events: Annotated[str | None, typer.Option(help="Other events, with commas.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Change its address or events, enable or disable it."""
    given = {
        "url": address,
        "events": None if events is None else [name.strip() for name in events.split(",")],
        "disabled": None if enabled is None else not enabled,
    }
    with api_errors_as_exit():
        wanted = {name: value for name, value in given.items() if value is not None}
        row = Client(url, key).change_webhook(webhook_id, wanted)
    _print(row)


@app.command()
def delete(webhook_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Forget a webhook with its secrets and deliveries."""
    with api_errors_as_exit():
        Client(url, key).delete_webhook(webhook_id)


@app.command()
def rotate(webhook_id: str, grace: Grace = "1d", url: Url = LOCAL, key: Key = None) -> None:
    """Make a new secret of a webhook, and print it."""
    with api_errors_as_exit():
        typer.echo(Client(url, key).rotate_webhook_secret(webhook_id, seconds(grace)))


@app.command()
def secret(grace: Grace = "1d", url: Url = LOCAL, key: Key = None) -> None:
    """Make the tenant's secret anew, which signs what goes to the `webhook` of a job, and print it."""
    with api_errors_as_exit():
        typer.echo(Client(url, key).rotate_webhook_secret(None, seconds(grace)))


@app.command("test")
def send_test(webhook_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Send `webhook.test`, and say what the receiver answered."""
    client = Client(url, key)
    deadline = time.monotonic() + TEST_SECONDS
    with api_errors_as_exit():
        sent = client.test_webhook(webhook_id)
        while sent["state"] == "waiting" and time.monotonic() < deadline:
            time.sleep(0.2)
            found = [row for row in client.deliveries(webhook_id, 100) if row["id"] == sent["id"]]
            sent = found[0] if found else sent
    _print_deliveries([sent])
    if sent["state"] != "delivered":
        raise fail("It did not arrive." if sent["state"] == "failed" else "It waits: does a worker of `io` run?")


@app.command()
def deliveries(
    webhook_id: Annotated[str | None, typer.Argument()] = None,
    job: Annotated[str | None, typer.Option(help="Those to the address that this job names.")] = None,
    limit: int = 20,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Deliveries to a webhook, or to the address of a job, newest first."""
    if (webhook_id is None) == (job is None):
        raise fail("Name a webhook, or a job with --job.")
    client = Client(url, key)
    with api_errors_as_exit():
        rows = client.deliveries(webhook_id, limit) if webhook_id else client.job_deliveries(str(job), limit)
    _print_deliveries(rows)


@app.command()
def redeliver(delivery_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Deliver something once more, now, whatever became of it."""
    with api_errors_as_exit():
        row = Client(url, key).redeliver(delivery_id)
    _print_deliveries([row])


def _state(row: dict[str, Any]) -> str:
    if row["disabled"]:
        return f"disabled ({row['disabled_reason']})"
    return f"failing since {row['failing_since'][:16]}" if row["failing_since"] else "enabled"


def _print(row: dict[str, Any]) -> None:
    for name, value in row.items():
        shown = " ".join(value) if isinstance(value, list) else value
        console.print(f"{name}: {'-' if shown is None else shown}", soft_wrap=True)


def _print_deliveries(rows: Iterable[dict[str, Any]]) -> None:
    table = listing("delivery", "event", "job", "state", "attempts", "last", "next")
    for row in rows:
        last = row["attempts"][-1] if row["attempts"] else {"status": None, "error": None}
        table.add_row(
            row["id"],
            row["type"],
            row["job_id"] or "-",
            row["state"],
            str(len(row["attempts"])),
            str(last["status"] or last["error"] or "-"),
            str(row["next_attempt_at"] or "-")[:19],
        )
    console.print(table)
