"""``longhand keys``: API keys, and what each may do."""

from __future__ import annotations

import re
from typing import Annotated, cast

import typer

from cli.command import ExitCode, Failed, Output, command, listing
from longhand import Client
from longhand.types import Priority

tokens = typer.Typer()
app = typer.Typer(help="API keys, and what each may do.", no_args_is_help=True)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


@command(app)
def create(
    client: Client,
    name: Annotated[str, typer.Option(help="What it is for; shown in lists and in the audit log.")],
    scopes: Annotated[
        str, typer.Option(help="With commas: jobs:read, jobs:write, voices, training, live, admin.")
    ] = "jobs:read,jobs:write",
    tenant: Annotated[str | None, typer.Option(help="Whose jobs it opens; your own when left out.")] = None,
    expires: Annotated[str | None, typer.Option(help="Such as 90d, 12h or 30m; never when left out.")] = None,
    priority: Annotated[
        str, typer.Option(help="The highest that it may ask for: low, normal or high.")
    ] = "normal",
) -> Output:
    """Make a key. It is printed once and can be read nowhere afterwards."""
    made = client.keys.create(
        name,
        _names(scopes),
        tenant=tenant,
        expires_in=None if expires is None else seconds(expires),
        max_priority=cast(Priority, priority),
    )
    # on its own, so that a script can take it
    return Output(made, made["key"])


@command(app, "list")
def list_(client: Client, limit: Annotated[int, typer.Option(min=1)] = 100) -> Output:
    """Keys, newest first."""
    table = listing(
        "key", "tenant", "name", "begins with", "scopes", "priority", "expires", "last used", "revoked"
    )
    found = list(client.keys.list(limit=limit))
    for row in found:
        times = (str(at or "-")[:16] for at in (row["expires_at"], row["last_used_at"], row["revoked_at"]))
        table.add_row(
            row["id"], row["tenant"], row["name"], row["prefix"], " ".join(row["scopes"]), row["max_priority"],
            *times,
        )  # fmt: skip
    return Output(found, table)


@command(app)
def revoke(client: Client, key_id: str) -> Output:
    """Revoke a key: it works nowhere a second later."""
    client.keys.revoke(key_id)
    return Output({"id": key_id})


@command(app)
def rotate(
    client: Client,
    key_id: str,
    grace: Annotated[str, typer.Option(help="How much longer the old one works, such as 1h.")] = "0s",
) -> Output:
    """Make a new key with the rights of an old one, and end that."""
    made = client.keys.rotate(key_id, grace_seconds=seconds(grace))
    return Output(made, made["key"])


@command(tokens)
def token(
    client: Client,
    scopes: Annotated[str, typer.Option(help="With commas, such as jobs:read.")] = "jobs:read",
    job: Annotated[str | None, typer.Option(help="The one job that it opens.")] = None,
    expires: Annotated[str, typer.Option(help="Such as 30s or 1h.")] = "5m",
) -> Output:
    """Make a short-lived token with a key, for a page or another service."""
    made = client.tokens.create(_names(scopes), job_id=job, seconds=int(seconds(expires)))
    return Output(made, made["token"])


def _names(scopes: str) -> list[str]:
    return [scope.strip() for scope in scopes.split(",") if scope.strip()]


def seconds(duration: str) -> float:
    """Of a duration such as 90d. Raises Failed."""
    parts = re.fullmatch(r"(\d{1,9})([smhd])", duration.strip())
    if parts is None:
        raise Failed(f"{duration!r} is no duration: say 90d, 12h, 30m or 45s.", ExitCode.USAGE)
    return int(parts[1]) * SECONDS[parts[2]]
