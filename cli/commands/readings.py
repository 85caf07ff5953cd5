"""``longhand summarise``, ``ask`` and ``translate``: what a language model makes of a transcript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from cli.command import Output, command
from longhand import Client
from longhand.types import Statement

app = typer.Typer()

Language = Annotated[str | None, typer.Option(help="In which language, such as en; else the transcript's.")]
Model = Annotated[str | None, typer.Option(help="A language model of the server, by name.")]


@command(app)
def summarise(
    client: Client,
    job_id: str,
    template: Annotated[str | None, typer.Option(help="A template of the tenant.")] = None,
    language: Language = None,
    model: Model = None,
) -> Output:
    """Summarise a finished transcript: title, summary, chapters and what is to be done, with times."""
    made = client.readings.summarise(job_id, template=template, language=language, model=model)
    reading = client.readings.wait(job_id, made["number"])
    return Output(reading, _summary(reading["content"] or {}))


@command(app)
def ask(client: Client, job_id: str, question: str, language: Language = None, model: Model = None) -> Output:
    """Ask about a finished transcript; each sentence of the answer says where it is from."""
    made = client.readings.ask(job_id, question, language=language, model=model)
    reading = client.readings.wait(job_id, made["number"])
    sentences = (reading["content"] or {}).get("sentences", [])
    return Output(reading, "\n".join(_lines(sentences)) or "The transcript has no answer to that.")


@command(app)
def translate(client: Client, job_id: str, language: str, model: Model = None) -> Output:
    """Translate a finished transcript; `longhand transcript JOB -o language=…` has it then."""
    made = client.readings.translate(job_id, language, model=model)
    reading = client.readings.wait(job_id, made["number"])
    segments = (reading["content"] or {}).get("segments", [])
    return Output(reading, f"{len(segments)} segments are translated into {language}.")


def _summary(content: Mapping[str, Any]) -> str:
    title = content.get("title")
    lines = [title["text"], ""] if title else []
    lines += _lines(content.get("summary", []))
    for heading, part in (("Chapters", "chapters"), ("To do", "actions")):
        if content.get(part):
            lines += ["", heading, *_lines(content[part])]
    return "\n".join(lines)


def _lines(statements: Iterable[Statement]) -> list[str]:
    return [f"{_time(each['start'])}  {each['text']}" for each in statements]


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"
