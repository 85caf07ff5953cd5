"""``longhand erase`` and ``erasures``: removing everything of a person, and certificates of what was removed."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.command import Failed, Output, command, console, listing
from longhand import Client
from longhand.types import Erasure

app = typer.Typer()


@command(app)
def erase(
    client: Client,
    voice: Annotated[str, typer.Option(help="The name of an enrolled voice, or one that people gave a speaker.")],
    similar: Annotated[
        bool, typer.Option("--similar", help="Also where somebody only sounds like the enrolled voice.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: bool = False,
) -> Output:
    """Erase a person: voice, voiceprints, name, words, clips in training data, and the recordings they speak in.

    A recording in which somebody else speaks too keeps the others' words. The key needs the scope `admin`.
    """
    if as_json and not (yes or dry_run):
        raise Failed("With --json nobody can be asked: add --yes, or --dry-run.")
    table = listing("job", "found by", "segments", "clips")
    if not yes or dry_run:
        asked = client.erasures.create(name=voice, similar=similar, dry_run=True)
        found = client.erasures.wait(asked["id"])
        for entry in found["found"] or ():
            table.add_row(
                entry["job_id"], ", ".join(entry["found_by"]), str(entry["segments"]), str(entry["clips"])
            )
        shown = table if table.row_count else f"No recording has {voice!r}."
        if dry_run:
            return Output(found, shown)
        console.print(shown)
        if not typer.confirm(f"Erase everything of {voice!r}? Nothing brings it back."):
            raise Failed("Nothing was erased.")
    erased = client.erasures.wait(client.erasures.create(name=voice, similar=similar)["id"])
    return Output(erased, f"erased {erased['erased_at']}, certificate {erased['id']}\n{_gone(erased)}")


@command(app)
def erasures(
    client: Client,
    subject: Annotated[str | None, typer.Argument(help="What was erased, such as a job's id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
) -> Output:
    """What was erased, and what is yet to be."""
    found = list(client.erasures.list(subject=subject, limit=limit))
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
    return Output(found, table)


def _gone(erasure: Erasure) -> str:
    counts = erasure["counts"] or {}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
