"""The `longhand` command."""

from __future__ import annotations

import typer

from cli.commands import (
    audit,
    backup,
    bulk,
    collections,
    demo,
    doctor,
    erasures,
    jobs,
    keys,
    models,
    plan,
    queues,
    readings,
    search,
    serve,
    tenants,
    training,
    transcribe,
    up,
    usage,
    vocabulary,
    voices,
    watch_folder,
    webhooks,
)
from db.private_files import keep_files_private

app = typer.Typer(help="Long recordings become speaker-labelled transcripts.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    keep_files_private()


app.command()(up.up)
app.command()(serve.serve)
app.command()(up.live)
for module in (
    demo,
    transcribe,
    watch_folder,
    jobs,
    bulk,
    search,
    readings,
    usage,
    audit,
    erasures,
    backup,
    doctor,
):
    app.add_typer(module.app)
for module in (queues, plan, training):
    app.add_typer(module.app)
app.add_typer(keys.tokens)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(voices.app, name="voices")
app.add_typer(collections.app, name="collections")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(vocabulary.app, name="vocabulary")
app.add_typer(tenants.app, name="tenants")
app.add_typer(training.versions, name="versions")
