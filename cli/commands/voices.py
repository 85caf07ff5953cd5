"""``longhand voices``: enrol people, and calibrate the threshold of recognition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.command import Failed, Output, command, listing
from db.settings import get_settings
from longhand import Client, WaitTimeout

app = typer.Typer(help="People whom transcripts call by name.", no_args_is_help=True)

TIMEOUT_SECONDS = 300.0
"""Seconds to wait for an enrolment; it stands in the queue like any other work."""


@command(app, "list")
def list_(client: Client) -> Output:
    """All enrolled voices."""
    table = listing("voice", "name", "status", "speech", "why not")
    found = list(client.voices.list())
    for voice in found:
        seconds = f"{voice['seconds']:.0f} s" if voice["seconds"] else "-"
        why = voice["error"]["message"] if voice["error"] else ""
        table.add_row(voice["id"], voice["name"], voice["status"], seconds, why)
    return Output(found, table)


@command(app)
def enrol(
    client: Client,
    name: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
) -> Output:
    """Enrol somebody from a recording of them alone, and wait until the voice is known."""
    voice_id = client.voices.enrol(name, file)["id"]
    try:
        voice = client.voices.wait(voice_id, timeout=TIMEOUT_SECONDS)
    except WaitTimeout as error:
        raise Failed(
            f"The voice {voice_id} is still pending; `longhand voices list` tells when it is ready."
        ) from error
    return Output(voice, voice_id)


@command(app)
def rename(client: Client, voice_id: str, name: str) -> Output:
    """Give a voice another name."""
    return Output(client.voices.change(voice_id, name=name))


@command(app)
def consent(
    client: Client, voice_id: str, training: Annotated[bool, typer.Argument(help="true or false")]
) -> Output:
    """Set whether a person's speech may become training data."""
    return Output(client.voices.change(voice_id, training=training))


@command(app)
def delete(client: Client, voice_id: str) -> Output:
    """Forget a voice and its vector."""
    client.voices.delete(voice_id)
    return Output({"id": voice_id})


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, readable=True)],
    seconds: Annotated[float, typer.Option(help="Length of the clips to be recognised.")] = 3.0,
) -> None:
    """Find the threshold on a folder of recordings, each of one person."""
    models = str(get_settings().models_path)
    command_line = [
        sys.executable,
        "-m",
        "speech.calibration",
        str(folder),
        "--models",
        models,
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run(command_line, check=False)  # noqa: S603  (our own command line)
    if done.returncode:
        raise typer.Exit(done.returncode)
