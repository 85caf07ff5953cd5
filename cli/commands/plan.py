"""``longhand plan``: how many workers a load wants, by what the latest recordings have cost here."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import Group

from cli.command import Failed, Output, command, table_of
from longhand import Client

app = typer.Typer()

ENOUGH_SECONDS = 3600.0
"""Of audio: from less, a plan is a guess."""

DAY_HOURS = 24.0


@command(app)
def plan(
    client: Client,
    hours_a_day: Annotated[float, typer.Option(min=0.01, help="Hours of audio that come in a day.")],
    within: Annotated[
        float, typer.Option(min=0.1, max=DAY_HOURS, help="Hours of the day in which they come.")
    ] = DAY_HOURS,
    busy: Annotated[
        float, typer.Option(min=0.05, max=1, help="Part of their time that workers should be busy.")
    ] = 0.7,
) -> Output:
    """Workers of each queue for a load, on machines like these, with these models."""
    report = client.queues.show(measure=True)
    audio = report["measured_audio_seconds"]
    if not audio:
        raise Failed("Nothing was transcribed here yet: transcribe what is usual, then plan.")
    costs = {name: row["work_per_audio_second"] or 0.0 for name, row in sorted(report["queues"].items())}
    workers = {name: workers_for(cost, hours_a_day, within, busy) for name, cost in costs.items()}
    table = table_of("queue", "minutes of a worker for an hour of audio", "workers")
    for name, cost in costs.items():
        table.add_row(name, f"{cost * 60:.1f}", str(workers[name]))
    basis = f"Measured on the latest {audio / 3600:.1f} hours of audio, with what else ran on these machines."
    if audio < ENOUGH_SECONDS:
        basis += " That is little: transcribe more of what is usual, several recordings at once, and plan again."
    return Output(
        {"workers": workers, "work_per_audio_second": costs, "measured_audio_seconds": audio}, Group(table, basis)
    )


def workers_for(cost: float, hours_a_day: float, within: float, busy: float) -> int:
    """``cost``: seconds of a worker for a second of audio; ``within``: hours of a day; ``busy``: part of them."""
    return max(1, math.ceil(round(cost * hours_a_day / (within * busy), 6)))
