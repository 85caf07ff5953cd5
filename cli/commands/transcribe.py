"""``longhand transcribe``: files, folders and addresses, several at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, cast

import typer

from cli.command import ExitCode, Failed, Output, Server, command, errors, parse_options
from cli.transcribe.run import Outcome, Result, Transcription
from cli.transcribe.screen import Screen
from cli.transcribe.sources import Source, find
from cli.transcribe.state import State
from longhand import AsyncClient, JobOptions

app = typer.Typer()

RETRIES = 20
"""About five minutes: a server may be restarted meanwhile."""


@command(app)
def transcribe(
    server: Server,
    recordings: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER|URL...")],
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for transcripts; beside the recordings if none.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="With commas, such as srt,vtt,json.")] = "txt",
    speakers: Annotated[int | None, typer.Option(min=1, help="So many people speak.")] = None,
    language: Annotated[str | None, typer.Option(help="Such as en; as heard if left out.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, repeatable.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Recordings under way at a time.")] = 8,
    as_json: bool = False,
) -> Output:
    """Transcribe recordings, and write their transcripts.

    The same command again goes on from where it was interrupted, skips what is done, and tries again what failed.
    """
    formats = list(dict.fromkeys(each.strip() for each in format_.split(",") if each.strip()))
    if not formats or any(not each.isalnum() for each in formats):
        raise Failed("Name one format or more: --format srt,vtt.", ExitCode.USAGE)
    options = parse_options(option or [])
    options |= {"speakers": speakers} if speakers is not None else {}
    options |= {"language": language} if language is not None else {}
    sources = find(recordings, out)
    if not sources:
        raise Failed("There are no recordings in there.", ExitCode.USAGE)
    try:
        results = _run(server, sources, cast(JobOptions, options), formats, at_once, silent=as_json)
    except KeyboardInterrupt:
        errors.print("Interrupted; the same command goes on.")
        raise
    return _summary(results)


def _run(
    server: Server,
    sources: Sequence[Source],
    options: JobOptions,
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
