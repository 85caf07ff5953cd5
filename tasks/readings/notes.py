"""Reading what is longer than a language model takes at once: notes of its parts, and notes of those."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from db.models import Json
from tasks.errors import Permanent
from tasks.readings import prompts
from tasks.readings.asking import AnswerTooLong, Asker, Prompt
from tasks.readings.lines import Line, Numbered, count_tokens, fit
from tasks.readings.statements import Statement, list_schema, object_schema, read_entries

MARGIN_TOKENS = 128
"""What chat templates add to a request, and a complaint about an answer."""

LEAST_TOKENS = 256
"""A model has room for at least so much of a transcript, or none is read with it."""

MOST_NOTES = 20
"""Of one part."""

SCHEMA = object_schema({"notes": list_schema(), "actions": list_schema()})
FORM = '{"notes": [{"text": "...", "lines": [1, 2]}], "actions": [{"text": "...", "lines": [3]}]}'


@dataclass(frozen=True, slots=True)
class Material:
    """What is put before the model in the end: lines, or notes where those are too many."""

    lines: Sequence[Numbered]
    is_notes: bool
    actions: Sequence[Statement] | None
    """What notes say that somebody is to do; None where the lines themselves are read."""

    @property
    def known(self) -> frozenset[int]:
        return known_numbers(self.lines)


def known_numbers(lines: Sequence[Numbered]) -> frozenset[int]:
    return frozenset(number for line in lines for number in line.cites)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What notes are made for."""

    task: str
    language: str | None
    instructions: str = ""


def room(asker: Asker, system: str) -> int:
    """Tokens that are left for lines. Raises Permanent."""
    tokens = asker.model.prompt_tokens - count_tokens(system) - MARGIN_TOKENS
    if tokens < LEAST_TOKENS:
        message = (
            f"{asker.model.name} takes {asker.model.prompt_tokens} tokens, and what it is told takes all but "
            f"{max(tokens, 0)}; raise its context_tokens, or shorten the template."
        )
        raise Permanent("context_too_short", message)
    return tokens


def gather(asker: Asker, lines: Sequence[Line], purpose: Purpose, tokens: int) -> Material:
    """The lines where they fit into so many tokens, else notes on them that do."""
    if len(fit(lines, tokens)) == 1:
        return Material(lines, False, None)
    notes, actions = _take_notes(asker, lines, purpose, is_notes=False)
    return Material(_condense(asker, notes, purpose, tokens), True, actions)


def halve(asker: Asker, material: Material, purpose: Purpose) -> Material:
    """For a model that takes less than it was said to."""
    if len(material.lines) < 2:
        raise Permanent("context_too_long", f"{asker.model.name} does not take even one line at once.")
    half = sum(count_tokens(line.shown) for line in material.lines) // 2
    if material.is_notes:
        notes = [line for line in material.lines if isinstance(line, Statement)]
        return Material(_condense(asker, notes, purpose, half), True, material.actions)
    lines = [line for line in material.lines if isinstance(line, Line)]
    return gather(asker, lines, purpose, half)


def _condense(asker: Asker, notes: Sequence[Statement], purpose: Purpose, tokens: int) -> Sequence[Statement]:
    """Fewer notes, until they fit. Where the model does not make fewer of them, some are left out evenly."""
    while len(fit(notes, tokens)) > 1:
        fewer, _ = _take_notes(asker, notes, purpose, is_notes=True)
        before, after = (sum(count_tokens(note.shown) for note in each) for each in (notes, fewer))
        if after > 0.8 * before or not fewer:
            kept = max(1, min(len(notes) - 1, int(len(notes) * tokens / before)))
            fewer = [notes[place * len(notes) // kept] for place in range(kept)]
        notes = fewer
    return notes


def _take_notes(
    asker: Asker, lines: Sequence[Numbered], purpose: Purpose, *, is_notes: bool
) -> tuple[list[Statement], list[Statement]]:
    """Notes, and what somebody is to do."""
    system = prompts.system(
        f"Take notes on a part of a {'pile of notes' if is_notes else 'transcript'}, at most {MOST_NOTES}, for "
        f"somebody who has to {purpose.task} without having seen it.",
        FORM,
        language=purpose.language,
        notes=is_notes,
        instructions=purpose.instructions,
    )
    parts = fit(lines, room(asker, system))
    notes: list[Statement] = []
    actions: list[Statement] = []
    while parts:
        asked = [
            Prompt(system, prompts.user(part, notes=is_notes), part, SCHEMA, _reader(known_numbers(part)))
            for part in parts
        ]
        left: list[list[Numbered]] = []
        found: list[tuple[list[Statement], list[Statement]]] = []
        answers = asker.ask_all(asked)
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, AnswerTooLong):
                left += _halves(asker, part, answer)
            else:
                found.append(answer)
        notes += [note for part_notes, _ in found for note in part_notes]
        actions += [action for _, part_actions in found for action in part_actions]
        parts = left
    return sorted(notes, key=_first), sorted(actions, key=_first)


def _halves(asker: Asker, part: Sequence[Numbered], error: AnswerTooLong) -> list[list[Numbered]]:
    if len(part) < 2:
        raise Permanent("context_too_long", f"{asker.model.name} does not take even one line at once.") from error
    middle = len(part) // 2
    return [list(part[:middle]), list(part[middle:])]


def _first(statement: Statement) -> int:
    return statement.cites[0]


def _reader(
    known: Collection[int],
) -> Callable[[Json], tuple[tuple[list[Statement], list[Statement]], list[str]]]:
    def read(answer: Json) -> tuple[tuple[list[Statement], list[Statement]], list[str]]:
        faults: list[str] = []
        notes = read_entries(answer, "notes", known, faults, most=MOST_NOTES)
        actions = read_entries({"actions": []} | answer, "actions", known, faults, most=MOST_NOTES)
        return (notes, actions), faults

    return read
