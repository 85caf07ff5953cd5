"""``longhand tenants``: what tenants may use, and what they do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from cli.command import ExitCode, Failed, Output, command
from longhand import Client
from longhand.types import Quota, Tenant

app = typer.Typer(help="What tenants may use, and what they do.", no_args_is_help=True)

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
DEFAULT = "default"
NONE = "none"
Retention = Literal["retain_audio_days", "retain_transcript_days", "retain_events_days"]
RETENTION: tuple[Retention, ...] = ("retain_audio_days", "retain_transcript_days", "retain_events_days")
YES_OR_NO = {"yes": True, "no": False, DEFAULT: None}


Amount = Annotated[str | None, typer.Option(metavar="NUMBER|default")]


def _number(text: str) -> float | int | None:
    """A number, with K, M, G or T for powers of 1024; None for ``default``. Raises BadParameter."""
    if text == DEFAULT:
        return None
    digits, factor = (text[:-1], UNITS[text[-1]]) if text[-1:] in UNITS else (text, 1)
    try:
        value = float(digits) * factor
        return int(value) if value == int(value) else value
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is neither a number nor {DEFAULT!r}") from error


def _kinds(text: str) -> list[str] | None:
    """Names divided by commas; empty for ``none``, None for ``default``."""
    if text in (NONE, DEFAULT):
        return [] if text == NONE else None
    return [name.strip() for name in text.split(",") if name.strip()]


def _yes_or_no(text: str) -> bool | None:
    """None for ``default``. Raises BadParameter."""
    if text not in YES_OR_NO:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(YES_OR_NO)}")
    return YES_OR_NO[text]


@command(app, "list")
def list_(client: Client) -> Output:
    """All tenants, each limit as used / allowed."""
    found = list(client.tenants.list())
    table = Table(box=None, pad_edge=False)
    table.add_column("tenant", no_wrap=True)
    for heading in ("hours this month", "stored", "jobs", "requests a minute", "streams", "uploads", "steps"):
        table.add_column(heading)
    for tenant in found:
        table.add_row(Text(tenant["name"]), *(_brief(name, quota) for name, quota in tenant["quotas"].items()))
    return Output(found, table)


@command(app)
def show(
    client: Client,
    name: Annotated[str | None, typer.Argument(help="The key's own tenant if left out.")] = None,
) -> Output:
    """One tenant: what it uses, what it may, and whether that is its own or the server's setting."""
    tenant = client.tenants.own() if name is None else client.tenants.get(name)
    return Output(tenant, _table(tenant))


@command(app, "set")
def set_(
    client: Client,
    name: str,
    audio_hours_month: Amount = None,
    stored_bytes: Amount = None,
    jobs_at_once: Amount = None,
    requests_per_minute: Amount = None,
    event_streams: Amount = None,
    uploads_at_once: Amount = None,
    steps_at_once: Amount = None,
    retain_audio_days: Amount = None,
    retain_transcript_days: Amount = None,
    retain_events_days: Amount = None,
    redact: Annotated[
        str | None,
        typer.Option(
            metavar="KINDS|none|default", help="Of phone, email, card and id, what is left out of transcripts."
        ),
    ] = None,
    keep_original: Annotated[
        str | None, typer.Option(metavar="yes|no|default", help="Whether what is left out is kept, encrypted.")
    ] = None,
) -> Output:
    """Give a tenant limits and rules of its own. `default` leaves one to the server's settings again."""
    given = {
        "audio_hours_month": audio_hours_month,
        "stored_bytes": stored_bytes,
        "jobs_at_once": jobs_at_once,
        "requests_per_minute": requests_per_minute,
        "event_streams": event_streams,
        "uploads_at_once": uploads_at_once,
        "steps_at_once": steps_at_once,
        "retain_audio_days": retain_audio_days,
        "retain_transcript_days": retain_transcript_days,
        "retain_events_days": retain_events_days,
    }
    change: dict[str, Any] = {column: _number(text) for column, text in given.items() if text is not None}
    if redact is not None:
        change["redact"] = _kinds(redact)
    if keep_original is not None:
        change["keep_original"] = _yes_or_no(keep_original)
    if not change:
        raise Failed("Say what to set; `longhand tenants set --help` lists it.", ExitCode.USAGE)
    tenant = client.tenants.change(name, change)
    return Output(tenant, _table(tenant))


def _table(tenant: Tenant) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (Text(tenant["name"]), "used", "allowed", ""):
        table.add_column(heading)
    for name, quota in tenant["quotas"].items():
        table.add_row(name, _figure(name, quota["used"]), _limit(name, quota), "own" if quota["own"] else DEFAULT)
    for column in RETENTION:
        if (days := tenant[column]) is not None:
            table.add_row(column, "", f"{days:g}", "own")
    if tenant["redact"] is not None:
        table.add_row("redact", "", ", ".join(tenant["redact"]) or NONE, "own")
    if tenant["keep_original"] is not None:
        table.add_row("keep_original", "", "yes" if tenant["keep_original"] else "no", "own")
    return table


def _brief(name: str, quota: Quota) -> str:
    return f"{_figure(name, quota['used'])} / {_limit(name, quota)}"


def _limit(name: str, quota: Quota) -> str:
    return "any" if quota["limit"] is None else _figure(name, quota["limit"])


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "stored_bytes":
        for unit in reversed(UNITS):
            if value >= UNITS[unit]:
                return f"{value / UNITS[unit]:.1f} {unit}iB"
        return f"{value} B"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
