"""``longhand keys``: API keys, and what each may do."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console, fail, listing

app = typer.Typer(help="API keys, and what each may do.", no_args_is_help=True)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for; shown in lists and in the audit log.")],
    scopes: Annotated[
        str, typer.Option(help="With commas: jobs:read, jobs:write, voices, training, live, admin.")
    ] = "jobs:read,jobs:write",
    tenant: Annotated[str | None, typer.Option(help="Whose jobs it opens; your own when left out.")] = None,
    expires: Annotated[str | None, typer.Option(help="Such as 90d, 12h or 30m; never when left out.")] = None,
    priority: Annotated[
        str, typer.Option(help="The highest that it may ask for: low, normal or high.")
    ] = "normal",
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Make a key. It is printed once and can be read nowhere afterwards."""
    wanted = {
        "name": name,
        "scopes": _names(scopes),
        "tenant": tenant,
        "expires_in": None if expires is None else seconds(expires),
        "max_priority": priority,
    }
    with api_errors_as_exit():
        made = Client(url, key).create_key(wanted)
    # on its own, so that a script can take it
    typer.echo(made["key"])


@app.command("list")
def list_(limit: int = 100, url: Url = LOCAL, key: Key = None) -> None:
    """Keys, newest first."""
    table = listing(
        "key", "tenant", "name", "begins with", "scopes", "priority", "expires", "last used", "revoked"
    )
    with api_errors_as_exit():
        for row in Client(url, key).keys(limit):
            times = (str(row[at] or "-")[:16] for at in ("expires_at", "last_used_at", "revoked_at"))
            table.add_row(
                row["id"], row["tenant"], row["name"], row["prefix"], " ".join(row["scopes"]), row["max_priority"],
                *times,
            )  # fmt: skip
    console.print(table)


@app.command()
def revoke(key_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Revoke a key: it works nowhere a second later."""
    with api_errors_as_exit():
        Client(url, key).revoke_key(key_id)


@app.command()
def rotate(
    key_id: str,
    grace: Annotated[str, typer.Option(help="How much longer the old one works, such as 1h.")] = "0s",
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Make a new key with the rights of an old one, and end that."""
    with api_errors_as_exit():
        made = Client(url, key).rotate_key(key_id, seconds(grace))
    typer.echo(made["key"])


def token(
    scopes: Annotated[str, typer.Option(help="With commas, such as jobs:read.")] = "jobs:read",
    job: Annotated[str | None, typer.Option(help="The one job that it opens.")] = None,
    expires: Annotated[str, typer.Option(help="Such as 30s or 1h.")] = "5m",
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Make a short-lived token with a key, for a page or another service."""
    wanted = {"scopes": _names(scopes), "job_id": job, "seconds": int(seconds(expires))}
    with api_errors_as_exit():
        made = Client(url, key).create_token(wanted)
    typer.echo(made["token"])


def _names(scopes: str) -> list[str]:
    return [scope.strip() for scope in scopes.split(",") if scope.strip()]


def seconds(duration: str) -> float:
    """Of a duration such as 90d."""
    parts = re.fullmatch(r"(\d{1,9})([smhd])", duration.strip())
    if parts is None:
        raise fail(f"{duration!r} is no duration: say 90d, 12h, 30m or 45s.")
    return int(parts[1]) * SECONDS[parts[2]]
