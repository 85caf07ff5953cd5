"""The `longhand` command."""

from __future__ import annotations

import typer

from cli.commands import (
    audit,
    backup,
    demo,
    erasures,
    jobs,
    keys,
    models,
    tenants,
    training,
    up,
    usage,
    voices,
    webhooks,
)
from db.private_files import keep_files_private

app = typer.Typer(
    help="Long recordings become speaker-labelled transcripts.", no_args_is_help=True, add_completion=False
)


@app.callback()
def _main() -> None:
    keep_files_private()


app.command()(up.up)
app.command()(demo.demo)
app.command()(jobs.submit)
app.command()(jobs.watch)
app.command()(jobs.jobs)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(jobs.delete)
app.command()(jobs.transcript)
app.command()(usage.usage)
app.command()(audit.audit)
app.command()(erasures.erase)
app.command()(erasures.erasures)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(backup.disk)
app.command()(training.export)
app.command()(training.finetune)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.command()(keys.token)
app.add_typer(voices.app, name="voices")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tenants.app, name="tenants")
app.add_typer(training.versions, name="versions")
