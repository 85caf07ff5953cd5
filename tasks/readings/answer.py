"""answer: a question about a transcript; every sentence of the answer cites its segments."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from db.models import Json, StepKind
from db.queue.claims import Claim
from db.readings import Made
from tasks.handler import Handler, Work
from tasks.readings import notes, prompts
from tasks.readings.asking import AnswerTooLong, Prompt
from tasks.readings.lines import neutral
from tasks.readings.notes import Material, Purpose
from tasks.readings.reading import DEADLINE, begin, commit
from tasks.readings.statements import Statement, list_schema, object_schema, read_entries

MOST_SENTENCES = 20
FORM = '{"answer": [{"text": "...", "lines": [1, 2]}]}'


def work(claims: Sequence[Claim], work: Work) -> list[Made]:
    (claim,) = claims
    started = begin(claim, work)
    question = neutral(started.request["question"])
    purpose = Purpose("answer the question below, from what bears on it alone", started.wanted_language, question)
    tokens = notes.room(started.asker, _system(purpose, is_notes=True))
    material = notes.gather(started.asker, started.lines, purpose, tokens)
    answer: list[Statement] = []
    while material.lines:
        try:
            answer = started.asker.ask(_prompt(purpose, material))
            break
        except AnswerTooLong:
            material = notes.halve(started.asker, material, purpose)
    return [started.made({"sentences": [started.shown(statement) for statement in answer]})]


def _system(purpose: Purpose, *, is_notes: bool) -> str:
    of_what = "notes on a transcript" if is_notes else "a transcript"
    return prompts.system(
        f"Answer a question about {of_what}, in few sentences. Where it has no answer, `answer` is an empty list.",
        FORM,
        language=purpose.language,
        notes=is_notes,
        instructions=purpose.instructions,
    )


def _prompt(purpose: Purpose, material: Material) -> Prompt[list[Statement]]:
    known = material.known

    def read(answer: Json) -> tuple[list[Statement], list[str]]:
        return _read(answer, known)

    return Prompt(
        _system(purpose, is_notes=material.is_notes),
        prompts.user(material.lines, notes=material.is_notes),
        material.lines,
        object_schema({"answer": list_schema()}),
        read,
    )


def _read(answer: Json, known: Collection[int]) -> tuple[list[Statement], list[str]]:
    faults: list[str] = []
    return read_entries(answer, "answer", known, faults, most=MOST_SENTENCES), faults


handler = Handler(StepKind.ANSWER, work, commit, deadline=DEADLINE)
