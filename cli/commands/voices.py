"""``longhand voices``: enrol people, and calibrate the threshold of recognition."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.commands.jobs import LOCAL, Key, Url, api_errors_as_exit, console, fail, listing
from db.settings import get_settings

app = typer.Typer(help="People whom transcripts call by name.", no_args_is_help=True)

TIMEOUT_SECONDS = 300.0
"""Seconds to wait for an enrolment; it stands in the queue like any other work."""


@app.command("list")
def list_(url: Url = LOCAL, key: Key = None) -> None:
    """All enrolled voices."""
    table = listing("voice", "name", "status", "speech", "why not")
    for voice in _ask(lambda client: client.voices(), url, key):
        seconds = f"{voice['seconds']:.0f} s" if voice["seconds"] else "-"
        why = voice["error"]["message"] if voice["error"] else ""
        table.add_row(voice["id"], voice["name"], voice["status"], seconds, why)
    console.print(table)


@app.command()
def enrol(
    name: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Enrol somebody from a recording of them alone, and wait until the voice is known."""
    voice = _ask(lambda client: client.enrol(name, file), url, key)
    voice_id = voice["id"]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while voice["status"] == "pending":
        if time.monotonic() > deadline:
            raise fail(f"The voice {voice_id} is still pending; `longhand voices list` tells when it is ready.")
        time.sleep(0.5)
        voice = _ask(lambda client: client.voice(voice_id), url, key)
    if voice["status"] == "failed":
        raise fail(f"{voice['error']['message']} ({voice['error']['code']})")
    console.print(voice_id, highlight=False)


@app.command()
def rename(voice_id: str, name: str, url: Url = LOCAL, key: Key = None) -> None:
    """Give a voice another name."""
    _ask(lambda client: client.change_voice(voice_id, {"name": name}), url, key)


@app.command()
def consent(
    voice_id: str,
    training: Annotated[bool, typer.Argument(help="true or false")],
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Set whether a person's speech may become training data."""
    _ask(lambda client: client.change_voice(voice_id, {"training": training}), url, key)


@app.command()
def delete(voice_id: str, url: Url = LOCAL, key: Key = None) -> None:
    """Forget a voice and its vector."""
    _ask(lambda client: client.delete_voice(voice_id), url, key)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, readable=True)],
    seconds: Annotated[float, typer.Option(help="Length of the clips to be recognised.")] = 3.0,
) -> None:
    """Find the threshold on a folder of recordings, each of one person."""
    models = str(get_settings().models_path)
    command = [
        sys.executable,
        "-m",
        "speech.calibration",
        str(folder),
        "--models",
        models,
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run(command, check=False)  # noqa: S603  (our own command line)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _ask(question: Any, url: str, key: str | None) -> Any:
    with api_errors_as_exit():
        return question(Client(url, key))
