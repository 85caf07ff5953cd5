"""``longhand watch-folder``: recordings are transcribed as they appear."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.command import Server, command, errors, print_json
from cli.commands.transcribe import (
    AtOnce,
    Formats,
    Language,
    Options,
    Out,
    Speakers,
    options_of,
    parse_formats,
)
from cli.transcribe.arrivals import Arrivals
from cli.transcribe.run import Result, Transcription
from cli.transcribe.screen import Screen
from cli.transcribe.state import State
from cli.transcribe.watching import Watch
from longhand import AsyncClient

app = typer.Typer()


@command(app, name="watch-folder")
def watch_folder(
    server: Server,
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, readable=True)],
    out: Out = None,
    format_: Formats = "txt",
    speakers: Speakers = None,
    language: Language = None,
    option: Options = None,
    at_once: AtOnce = 8,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds without a change after which a file counts as complete.")
    ] = 5.0,
    poll: Annotated[
        float | None,
        typer.Option(min=0.1, help="Look every so many seconds: for network folders, which tell nothing."),
    ] = None,
    as_json: bool = False,
) -> None:
    """Transcribe recordings as they appear in a folder, until it is stopped.

    Started again, it goes on with what was under way, and does nothing twice. With --json, a line for each.
    """
    formats, options = parse_formats(format_), options_of(speakers, language, option)
    # a lease on a file that somebody opens, see arrivals.is_being_written
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    folder, root = folder.absolute(), (out or folder).absolute()

    def report(result: Result) -> None:
        if as_json:
            print_json(result.to_json())

    async def work(state: State, screen: Screen) -> None:
        async with AsyncClient(server.url, server.key) as client:
            transcription = Transcription(
                client, options, formats, {root: state}, screen, at_once, unattended=True
            )
            arrivals = Arrivals(folder, out, settle)
            await _until_terminated(Watch(folder, arrivals, transcription, poll, report, _say))

    with closing(State(root)) as state, Screen(errors, None, silent=as_json) as screen:
        asyncio.run(work(state, screen))


async def _until_terminated(watch: Watch) -> None:
    """Until SIGTERM, which ends it well."""
    running, terminated = asyncio.create_task(watch.run()), asyncio.Event()

    def terminate() -> None:
        terminated.set()
        running.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await running
    except asyncio.CancelledError:
        if not terminated.is_set():
            raise


def _say(message: str) -> None:
    errors.print(message, soft_wrap=True)
