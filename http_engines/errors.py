"""The ways in which a request to a model can fail, besides that nobody answers (``speech.engines.EngineAway``).

RemoteError
├── Failed      tried several times: the server erred, was too slow, or answered nonsense
└── Refused     the server takes this request to be wrong: asking again cannot help
    └── TooLong     for a language model: it takes no more than so much at once
"""

from __future__ import annotations


class RemoteError(Exception):
    """Messages name the model and what happened, never an answer's text, an address's credentials or a key."""


class Failed(RemoteError):
    """Another attempt, later, may succeed."""


class Refused(RemoteError):
    """No attempt will succeed. ``said`` is what the server gave as its reason, for comparison alone."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class TooLong(Refused):
    """A shorter request may succeed."""


class InvalidEndpoints(Exception):
    """The operators' file cannot be used. The message says where in it, and what is wrong."""
