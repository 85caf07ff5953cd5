"""The `longhand` command."""

from __future__ import annotations

import typer

from cli import models, up

app = typer.Typer(
    help="Long recordings become speaker-labelled transcripts.", no_args_is_help=True, add_completion=False
)
app.add_typer(models.app, name="models")
app.command()(up.up)
