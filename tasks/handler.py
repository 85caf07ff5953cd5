"""The two halves of every kind of step: work with no transaction open, then commit in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from db.models import StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from tasks.lease import Lease
from tasks.runtime import Runtime
from tasks.transaction import announce, fenced


@dataclass(frozen=True, slots=True)
class Work:
    """The second argument of a handler's ``work``, beside its claims."""

    runtime: Runtime
    lease: Lease

    @contextmanager
    def transaction(self, claim: Claim) -> Iterator[JobTransaction]:
        """A fenced transaction on the claim's job, for long work that commits along the way."""
        with fenced(self.runtime, claim) as transaction:
            yield transaction
        announce(self.runtime, transaction)


Output = Any
"""Passed from a handler's ``work`` to its own ``commit``, in memory."""


@dataclass(frozen=True, slots=True)
class Handler:
    """How steps of one kind are done.

    ``work`` returns one output, or one error, for each claim. ``commit`` writes an output inside the
    transaction that finishes the step, and returns the step's ``result``.
    """

    kind: StepKind
    work: Callable[[Sequence[Claim], Work], Sequence[Output | Exception]]
    commit: Callable[[JobTransaction, Claim, Output], Mapping[str, Any] | None]
    deadline: float
    """Seconds after which the step counts as hung."""
    batch: Callable[[Runtime], int] = lambda runtime: 1
    """How many steps one claim may lease."""
    discard: Callable[[Runtime, Output], None] = lambda runtime, output: None
    """Removes the objects that ``work`` stored, when its output cannot be committed."""
    tidy: Callable[[Runtime, Output], None] = lambda runtime, output: None
    """Removes the objects that nobody needs any more, once it is committed. Does not raise."""
