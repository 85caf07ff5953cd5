"""summarise: the title, summary, chapters and action items of a transcript; every sentence cites its segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from db.models import Json, StepKind
from db.queue.claims import Claim
from db.readings import Made
from tasks.errors import Permanent
from tasks.handler import Handler, Work
from tasks.readings import notes, prompts
from tasks.readings.asking import AnswerTooLong, Prompt
from tasks.readings.notes import Material, Purpose
from tasks.readings.reading import DEADLINE, Started, begin, commit
from tasks.readings.statements import (
    Statement,
    entry_schema,
    list_schema,
    object_schema,
    read_entries,
    read_entry,
)

PARTS = ("title", "summary", "chapters", "actions")
SENTENCES = 8
"""Of a summary, where no template says how many."""

MOST_CHAPTERS, MOST_ACTIONS = 60, 100

FORMS = {
    "title": '"title": {"text": "...", "lines": [1]}',
    "summary": '"summary": [{"text": "...", "lines": [1, 2]}]',
    "chapters": '"chapters": [{"text": "the chapter\'s title", "lines": [the first line of the chapter]}]',
    "actions": '"actions": [{"text": "who does what, until when", "lines": [3]}]',
}
TASKS = {
    "title": "a title of at most ten words",
    "summary": "a summary of at most {sentences} sentences",
    "chapters": "the chapters that it falls into, in order, none shorter than some minutes",
    "actions": "what somebody promised or was asked to do; none where nobody did",
}

Summary = dict[str, list[Statement]]


def work(claims: Sequence[Claim], work: Work) -> list[Made]:
    (claim,) = claims
    started = begin(claim, work)
    template = started.template
    parts = [part for part in PARTS if template is None or part in template.parts]
    sentences = SENTENCES if template is None else template.sentences
    purpose = Purpose(
        "write its summary and chapters",
        started.wanted_language,
        "" if template is None else template.instructions,
    )
    # what is longest: notes may take the place of lines
    tokens = notes.room(started.asker, _system(purpose, parts, sentences, is_notes=True))
    material = notes.gather(started.asker, started.lines, purpose, tokens)
    while True:
        prompt = _prompt(purpose, parts, sentences, material)
        try:
            summary = started.asker.ask(prompt)
            break
        except AnswerTooLong:
            material = notes.halve(started.asker, material, purpose)
    if material.actions is not None and "actions" in parts:
        summary["actions"] = list(material.actions)
    if not any(summary.values()):
        raise Permanent("not_grounded", f"{started.asker.model.name} cited nothing that it was shown.")
    return [started.made(_content(started, summary, parts))]


def _system(purpose: Purpose, parts: Sequence[str], sentences: int, *, is_notes: bool) -> str:
    tasks = "; ".join(TASKS[part].format(sentences=sentences) for part in parts)
    of_what = "a transcript, of which you have notes" if is_notes else "a transcript"
    return prompts.system(
        f"Write about {of_what}: {tasks}.",
        "{" + ", ".join(FORMS[part] for part in parts) + "}",
        language=purpose.language,
        notes=is_notes,
        instructions=purpose.instructions,
    )


def _prompt(purpose: Purpose, parts: Sequence[str], sentences: int, material: Material) -> Prompt[Summary]:
    if material.actions is not None:
        # the notes have them from the lines themselves
        parts = [part for part in parts if part != "actions"] or parts
    schema = object_schema({part: entry_schema() if part == "title" else list_schema() for part in parts})
    return Prompt(
        _system(purpose, parts, sentences, is_notes=material.is_notes),
        prompts.user(material.lines, notes=material.is_notes),
        material.lines,
        schema,
        _reader(parts, sentences, material),
    )


def _reader(
    parts: Sequence[str], sentences: int, material: Material
) -> Callable[[Json], tuple[Summary, list[str]]]:
    most = {"summary": sentences, "chapters": MOST_CHAPTERS, "actions": MOST_ACTIONS}
    known = material.known

    def read(answer: Json) -> tuple[Summary, list[str]]:
        faults: list[str] = []
        summary: Summary = {}
        for part in parts:
            if part == "title" and "title" in answer:
                title = read_entry(answer["title"], "title", known, faults)
                summary["title"] = [title] if title else []
            else:
                summary[part] = read_entries(answer, part, known, faults, most=most[part])
        if "summary" in parts and not summary["summary"]:
            faults.append("`summary` has no sentence that cites a line.")
        return summary, faults

    return read


def _content(started: Started, summary: Summary, parts: Sequence[str]) -> Json:
    shown = {part: [started.shown(statement) for statement in summary.get(part, [])] for part in parts}
    content: dict[str, Any] = {"title": None, "summary": [], "chapters": [], "actions": []} | shown
    content["title"] = content["title"][0] if content["title"] else None
    content["chapters"] = _in_order(content["chapters"])
    return content


def _in_order(chapters: Sequence[Json]) -> list[Json]:
    """By time, one for each beginning."""
    by_start = {chapter["start"]: chapter for chapter in reversed(chapters)}
    return [by_start[start] for start in sorted(by_start)]


handler = Handler(StepKind.SUMMARISE, work, commit, deadline=DEADLINE)
