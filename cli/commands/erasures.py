"""``longhand erase`` and ``erasures``: removing everything of a person, and certificates of what was removed."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console, fail, listing

POLL_SECONDS = 0.5


def erase(
    voice: Annotated[str, typer.Option(help="The name of an enrolled voice, or one that people gave a speaker.")],
    similar: Annotated[
        bool, typer.Option("--similar", help="Also where somebody only sounds like the enrolled voice.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Erase a person: voice, voiceprints, name, words, clips in training data, and the recordings they speak in.

    A recording in which somebody else speaks too keeps the others' words. The key needs the scope `admin`.
    """
    client = Client(url, key)
    wanted: dict[str, Any] = {"name": voice, "similar": similar}
    found = _carry_out(client, wanted | {"dry_run": True})
    table = listing("job", "found by", "segments", "clips")
    for entry in found["found"] or ():
        table.add_row(entry["job_id"], ", ".join(entry["found_by"]), str(entry["segments"]), str(entry["clips"]))
    console.print(table if table.row_count else f"No recording has {voice!r}.")
    if dry_run:
        return
    if not yes and not typer.confirm(f"Erase everything of {voice!r}? Nothing brings it back."):
        raise typer.Exit(1)
    _print(_carry_out(client, wanted))


def _carry_out(client: Client, wanted: dict[str, Any]) -> dict[str, Any]:
    """Ask for it, and wait until it is done: it stands in the queue like any other work."""
    with api_errors_as_exit():
        erasure = client.erase_person(wanted)
        while erasure["status"] == "pending":
            time.sleep(POLL_SECONDS)
            erasure = client.erasure(erasure["id"])
    if erasure["status"] == "failed":
        raise fail(f"{erasure['error']['message']} ({erasure['error']['code']})")
    return erasure


def erasures(
    subject: Annotated[str | None, typer.Argument(help="What was erased, such as a job's id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")] = 20,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """What was erased, and what is yet to be."""
    with api_errors_as_exit():
        found = Client(url, key).erasures(subject, limit)
    table = listing("erasure", "what", "because", "status", "of", "gone")
    for erasure in found:
        table.add_row(
            erasure["id"],
            erasure["what"] + (" (dry run)" if erasure["dry_run"] else ""),
            erasure["reason"],
            erasure["status"],
            erasure["subject"],
            _gone(erasure),
        )
    console.print(table)


def _print(erasure: dict[str, Any]) -> None:
    console.print(f"erased {erasure['erased_at']}, certificate {erasure['id']}", highlight=False)
    console.print(_gone(erasure), highlight=False)


def _gone(erasure: dict[str, Any]) -> str:
    counts = erasure["counts"] or {}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
