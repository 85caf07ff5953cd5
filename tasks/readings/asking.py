"""Asking a language model until its answer can be used, once for each question of a reading."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from db import readings
from db.models import Json
from db.queue.claims import Claim
from http_engines.errors import Refused, RemoteError, TooLong
from http_engines.language_model import HttpLanguageModel
from http_engines.wire.completions import Completion, Message
from speech.engines import EngineAway
from tasks.errors import Awaited, Permanent, Transient, Unserved
from tasks.handler import Work
from tasks.readings.lines import Numbered, count_tokens
from tasks.readings.statements import Unreadable

T = TypeVar("T")

MOST_ASKED = 3
"""Times that the model is asked one thing before what is usable of its best answer is taken."""

AWAIT_SECONDS = 5.0
"""Between two attempts at a reading whose model is away."""

REASONING_BEGINS, REASONING_ENDS = "<think>", "</think>"

TOKEN = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[][{}]', re.DOTALL)
"""Of JSON, what tells where objects and lists end: strings, which may hold brackets, and brackets."""

CLOSING = {"{": "}", "[": "]"}

DEEPEST = 4
"""Lists and objects within each other, of what is asked for."""


class AnswerTooLong(Exception):
    """What was put before the model, or what it has to say of that, is more than it takes at once."""


@dataclass(frozen=True, slots=True)
class Prompt(Generic[T]):
    """What the model is asked, and how its answer is read."""

    system: str
    user: str
    lines: Sequence[Numbered]
    """That ``user`` shows."""
    schema: Mapping[str, Any]
    read: Callable[[Json], tuple[T, list[str]]]
    """The answer's JSON as a value, and what is wrong with it, for the model. May raise Unreadable."""

    @property
    def messages(self) -> list[Message]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]

    @property
    def digest(self) -> str:
        return sha256(json.dumps([self.messages, self.schema]).encode()).hexdigest()[:32]


class Asker:
    """Asks for one reading. What was answered is kept with it: an attempt after this one does not ask again."""

    def __init__(self, work: Work, claim: Claim, model: HttpLanguageModel, late_at: float) -> None:
        self._work, self._claim, self.model, self._late_at = work, claim, model, late_at
        with work.runtime.sessions() as session:
            self._memo = readings.memo(session, claim.job_id, claim.chunk_index)
        self._lock = threading.Lock()
        self.tokens: Counter[str] = Counter()

    def ask_all(self, prompts: Sequence[Prompt[T]]) -> list[T | AnswerTooLong]:
        """In order; several are under way at once."""
        with ThreadPoolExecutor(max(1, min(self.model.capacity, 8)), "reading") as threads:
            return list(threads.map(self._ask_or_too_long, prompts))

    def _ask_or_too_long(self, prompt: Prompt[T]) -> T | AnswerTooLong:
        try:
            return self.ask(prompt)
        except AnswerTooLong as error:
            return error

    def ask(self, prompt: Prompt[T]) -> T:
        """Raises AnswerTooLong, or the StepError that the failure of the model is."""
        known = self._memo.get(prompt.digest)
        if known is not None:
            self._count(known["tokens"])
            return prompt.read(known["answer"])[0]
        messages = prompt.messages
        best: tuple[int, Json, T] | None = None
        tokens: Counter[str] = Counter()
        for _ in range(MOST_ASKED):
            completion = self._complete(messages, prompt.schema, tokens)
            if completion.cut and self._has_much_to_read(prompt):
                raise AnswerTooLong(f"{self.model.name} had more to say than its answer_tokens")
            try:
                answer = parse(completion.text, cut=completion.cut)
                if not answer.keys() & prompt.schema["properties"].keys():
                    raise Unreadable("It has none of the fields that were asked for.")
                value, faults = prompt.read(answer)
            except Unreadable as error:
                faults = ["It was too long." if completion.cut else str(error)]
            else:
                if best is None or len(faults) < best[0]:
                    best = len(faults), answer, value
                # who goes on and on would do so again
                if not faults or completion.cut:
                    break
            # without the answer itself: that may be as long as it likes
            messages = [*prompt.messages, _complaint(faults)]
        self._count(tokens)
        if best is None:
            raise Permanent("unreadable_answer", f"{self.model.name} did not answer in the form it was asked for.")
        _, answer, value = best
        with self._work.transaction(self._claim) as tx:
            kept = {"answer": answer, "tokens": dict(tokens)}
            readings.keep(tx, self._claim.chunk_index, prompt.digest, kept)
        return value

    def _has_much_to_read(self, prompt: Prompt[T]) -> bool:
        """Whether less to read would be less to say: not where an answer is longer than what it is about."""
        return len(prompt.lines) > 1 and count_tokens(prompt.user) > self.model.answer_tokens

    def _complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], tokens: Counter[str]
    ) -> Completion:
        try:
            completion = self.model.complete(messages, schema, self._late_at)
        except TooLong as error:
            raise AnswerTooLong(str(error)) from error
        except EngineAway as error:
            raise (Unserved(str(error)) if error.for_good else Awaited(str(error), delay=AWAIT_SECONDS)) from error
        except Refused as error:
            raise Permanent("model_refused", f"{error}.") from error
        except RemoteError as error:
            raise Transient(str(error)) from error
        tokens.update(prompt=completion.prompt_tokens, completion=completion.completion_tokens)
        return completion

    def _count(self, tokens: Mapping[str, int]) -> None:
        with self._lock:
            self.tokens.update(tokens)


def _complaint(faults: Sequence[str]) -> Message:
    said = " ".join(faults[:10])
    again = "Answer anew, in JSON alone, and leave out what you cannot cite."
    return {"role": "user", "content": f"Your answer to this could not be used. {said} {again}"}


def parse(text: str, *, cut: bool = False) -> Json:
    """The JSON object in an answer, whatever stands around it. Raises Unreadable.

    Of one that is ``cut`` it is what was complete.
    """
    _, ends, text = text.rpartition(REASONING_ENDS)
    if cut and not ends and REASONING_BEGINS in text:
        raise Unreadable("It ended before it began.")
    text = text[max(text.find("{"), 0) :]
    try:
        answer, _ = json.JSONDecoder(parse_constant=_refuse).raw_decode(_completed(text) if cut else text)
    except (ValueError, RecursionError):
        raise Unreadable("That is no JSON.") from None
    if not isinstance(answer, dict):
        raise Unreadable("That is no JSON object.")
    return {_storable(name): _storable(value) for name, value in answer.items()}


def _completed(text: str) -> str:
    """JSON that breaks off, up to its last whole object or list, with what is open closed."""
    open_: list[str] = []
    end, closing = 0, ""
    for token in TOKEN.finditer(text):
        character = token.group()
        if character in CLOSING:
            open_.append(CLOSING[character])
        elif open_ and character == open_[-1]:
            open_.pop()
            if len(open_) <= DEEPEST:
                end, closing = token.end(), "".join(reversed(open_))
    return text[:end] + closing


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _storable(value: Any) -> Any:
    """PostgreSQL takes no NUL and no half of a surrogate pair in a text."""
    if isinstance(value, dict):
        return {_storable(key): _storable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, str):
        return "".join(c for c in value if c != "\x00" and not "\ud800" <= c <= "\udfff")
    return value
