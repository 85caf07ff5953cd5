"""``longhand transcribe``: files, folders and addresses, several at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import ExitCode, Failed, Output, Server, command, errors, parse_options
from cli.transcribe import batch
from cli.transcribe.run import Outcome, Result, Transcription
from cli.transcribe.screen import Screen
from cli.transcribe.source import Source
from cli.transcribe.sources import find
from cli.transcribe.state import State
from longhand import AsyncClient

app = typer.Typer()

RETRIES = 20
"""About five minutes: a server may be restarted meanwhile."""

Out = Annotated[
    Path | None, typer.Option(file_okay=False, help="Folder for transcripts; beside the recordings if none.")
]
Formats = Annotated[str, typer.Option("--format", "-f", help="With commas, such as srt,vtt,json.")]
Speakers = Annotated[int | None, typer.Option(min=1, help="So many people speak.")]
Language = Annotated[str | None, typer.Option(help="Such as en; as heard if left out.")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, repeatable.")]
AtOnce = Annotated[int, typer.Option(min=1, max=64, help="Recordings under way at a time.")]


@command(app)
def transcribe(
    server: Server,
    recordings: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER|URL|BATCH.csv...")],
    out: Out = None,
    format_: Formats = "txt",
    speakers: Speakers = None,
    language: Language = None,
    option: Options = None,
    at_once: AtOnce = 8,
    as_json: bool = False,
) -> Output:
    """Transcribe recordings, and write their transcripts.

    The same command again goes on from where it was interrupted, skips what is done, and tries again what failed.
    """
    formats, options = parse_formats(format_), options_of(speakers, language, option)
    sources = find(recordings, out)
    if not sources:
        raise Failed("There are no recordings in there.", ExitCode.USAGE)
    try:
        results = _run(server, sources, options, formats, at_once, silent=as_json)
    except KeyboardInterrupt:
        errors.print("Interrupted; the same command goes on.")
        raise
    rows = [(result.source.row, result.cells()) for result in results if result.source.row]
    try:
        batch.write_results(rows, out)
    except OSError as error:
        raise Failed(f"The results of the batch cannot be written: {error}.") from error
    return _summary(results)


def parse_formats(names: str) -> list[str]:
    """Raises Failed."""
    formats = list(dict.fromkeys(each.strip() for each in names.split(",") if each.strip()))
    if not formats or any(not each.isalnum() for each in formats):
        raise Failed("Name one format or more: --format srt,vtt.", ExitCode.USAGE)
    return formats


def options_of(speakers: int | None, language: str | None, pairs: list[str] | None) -> dict[str, Any]:
    """Raises Failed."""
    options = parse_options(pairs or [])
    options |= {"speakers": speakers} if speakers is not None else {}
    options |= {"language": language} if language is not None else {}
    return options


def _run(
    server: Server,
    sources: Sequence[Source],
    options: Mapping[str, Any],
    formats: Sequence[str],
    at_once: int,
    *,
    silent: bool,
) -> list[Result]:
    with ExitStack() as stack:
        roots = {source.root for source in sources}
        states = {root: stack.enter_context(closing(State(root))) for root in sorted(roots)}
        screen = stack.enter_context(Screen(errors, len(sources), silent=silent))

        async def work() -> list[Result]:
            async with AsyncClient(server.url, server.key, retries=RETRIES) as client:
                transcription = Transcription(client, options, formats, states, screen, at_once)
                await transcription.check()
                return await transcription.run(sources)

        return asyncio.run(work())


def _summary(results: Sequence[Result]) -> Output:
    counts = Counter(result.outcome for result in results)
    failed = [result for result in results if result.outcome == Outcome.FAILED]
    code = ExitCode.DONE
    if failed:
        code = ExitCode.UNREACHABLE if all(result.unreachable for result in failed) else ExitCode.FAILED
    text = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    data = [result.to_json() for result in results]
    return Output({"results": data, "counts": {each: counts[each] for each in Outcome}}, text, code)
