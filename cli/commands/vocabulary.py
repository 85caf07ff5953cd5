"""``longhand vocabulary``: names and terms, and proposals learnt from corrections."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.command import Failed, Output, command, listing
from longhand import Client
from longhand.types import Term

app = typer.Typer(help="Names and terms that recordings have.", no_args_is_help=True)

SoundsLike = Annotated[
    list[str] | None, typer.Option("--sounds-like", "-s", help="How it is misheard; repeatable.")
]


@command(app)
def add(
    client: Client,
    term: str,
    sounds_like: SoundsLike = None,
    language: Annotated[str | None, typer.Option(help="In which language it is a term; else in all.")] = None,
) -> Output:
    """Add a term as it is to be written, or accept a proposal: what was heard instead goes with it."""
    heard = sounds_like
    if heard is None:
        heard = next((each["sounds_like"] for each in client.vocabulary.proposals() if each["term"] == term), [])
    made = client.vocabulary.add(term, sounds_like=heard, language=language)
    return Output(made, made["id"])


@command(app, "list")
def list_(client: Client) -> Output:
    """The terms."""
    found = list(client.vocabulary.list())
    table = listing("term", "sounds like", "language", "state")
    for each in found:
        state = "accepted" if each["accepted"] else "rejected"
        table.add_row(each["term"], ", ".join(each["sounds_like"]), each["language"] or "", state)
    return Output(found, table)


@command(app)
def proposals(client: Client) -> Output:
    """What people have corrected twice or more."""
    found = list(client.vocabulary.proposals())
    table = listing("term", "heard as", "corrections")
    for each in found:
        table.add_row(each["term"], ", ".join(each["sounds_like"]), str(each["corrections"]))
    return Output(found, table)


@command(app)
def reject(client: Client, term: str) -> Output:
    """Have a proposal not come again."""
    made = client.vocabulary.reject(term)
    return Output(made, made["id"])


@command(app)
def remove(client: Client, term: str) -> Output:
    """Remove a term; a rejected one may be proposed again."""
    found = _find(client, term)
    client.vocabulary.delete(found["id"])
    return Output(found, f"{term} is removed.")


def _find(client: Client, term: str) -> Term:
    found = next((each for each in client.vocabulary.list() if each["term"] == term), None)
    if found is None:
        raise Failed(f"There is no term {term!r}; `longhand vocabulary list` has them.")
    return found
