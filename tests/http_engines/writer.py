"""A language model by rule: it cites what it is shown, in whatever form it is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.http_engines.server import Asked, Behaviour, Handler

LINE = re.compile(r"^\[([\d, ]+)\] (.*)$", re.MULTILINE)


def lines_of(asked: Asked) -> list[tuple[list[int], str]]:
    """The numbered lines that it was shown: numbers and text."""
    return [([int(n) for n in numbers.split(",")], text) for numbers, text in LINE.findall(asked.told)]


def write(asked: Asked) -> str:
    """A sentence for each of a few lines; what is to be done where a line says `will`."""
    shown = lines_of(asked)
    few = shown[:: max(1, len(shown) // 5)]
    said = [{"text": f"It is said that {text}", "lines": numbers} for numbers, text in few]
    todo = [{"text": f"To do: {text}", "lines": numbers} for numbers, text in shown if " will " in text]
    known: dict[str, Any] = {
        "notes": said,
        "actions": todo,
        "title": {"text": "A talk", "lines": shown[0][0]} if shown else {"text": "", "lines": []},
        "summary": said,
        "chapters": [{"text": f"From {numbers[0]} on", "lines": numbers[:1]} for numbers, _ in few],
        "answer": said[:1],
        "lines": [{"line": numbers[0], "text": f"fr({text.rpartition(': ')[2]})"} for numbers, text in shown],
    }
    return json.dumps({field: known[field] for field in fields_asked_for(asked)})


def fields_asked_for(asked: Asked) -> list[str]:
    if asked.schema is not None:
        return list(asked.schema["properties"])
    form = asked.context.rpartition("in this form:")[2]
    return re.findall(r'"(notes|actions|title|summary|chapters|answer|lines)": [\[{] ?{?"(?:text|line)"', form)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Asked], str]:
    """The same after a change of the answer's object."""

    def say(asked: Asked) -> str:
        answer = json.loads(write(asked))
        change(answer)
        return json.dumps(answer)

    return say


def refusing_schemas(handler: Handler) -> bool:
    """Like a server that knows no ``response_format``."""
    if handler.server_of.asked[-1].schema is None:
        return False
    handler.error(400, "invalid_request_error", "Unknown parameter: 'response_format'.", "response_format")
    return True


def knowing_objects(handler: Handler) -> bool:
    """Like llama-cpp-python's server: it takes a schema beside ``json_object``, and breaks at ``json_schema``."""
    if handler.server_of.asked[-1].format != "json_schema":
        return False
    message = "1 validation error: ('body', 'response_format', 'type'): Input should be 'text' or 'json_object'"
    handler.error(500, "internal_server_error", message)
    return True


def taking(tokens: int) -> Behaviour:
    """Like llama.cpp's server with a context of so many tokens, of four bytes each."""

    def behave(handler: Handler) -> bool:
        asked = handler.server_of.asked[-1]
        used = len((asked.context + asked.told).encode()) // 4
        if used <= tokens:
            return False
        message = f"the request exceeds the available context size ({tokens} tokens), try increasing it"
        handler.error(400, "exceed_context_size_error", message)
        return True

    return behave
