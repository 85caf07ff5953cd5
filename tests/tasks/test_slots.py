"""Slots: who has one goes on while there is work, and gives every kind its turn."""

from __future__ import annotations

import pytest

from db.models import StepKind
from db.settings import Settings
from tasks import registry
from tasks.handler import Handler
from tasks.runtime import Runtime
from tasks.slots import Slots
from tests.jobs import add_chunks, make_job


def test_a_slot_goes_on_while_there_is_work() -> None:
    slots = Slots(1)
    assert slots.acquire("align")
    assert slots.go_on("align", found=True) == "align"
    assert slots.go_on("align", found=False) is None
    assert slots.free == 1


def test_kinds_that_are_turned_away_have_their_turn() -> None:
    slots = Slots(1)
    assert slots.acquire("align")
    assert not slots.acquire("finalize")
    assert not slots.acquire("purge")
    assert not slots.acquire("finalize"), "once is enough"
    turns = ["align"]
    for _ in range(5):
        turns.append(slots.go_on(turns[-1], found=turns[-1] != "purge") or "")
    assert turns == ["align", "finalize", "purge", "align", "finalize", "align"]


def test_one_hint_is_enough_for_all_that_waits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(settings)
    done: list[int] = []
    handler = Handler(
        StepKind.DRAFT,
        lambda claims, work: [None] * len(claims),
        lambda tx, claim, output: done.append(claim.chunk_index),
        deadline=60,
    )
    monkeypatch.setitem(registry.HANDLERS, StepKind.DRAFT, handler)
    add_chunks(runtime.sessions, make_job(runtime.sessions), 5)
    assert len(registry.claim_and_run(StepKind.DRAFT, runtime).split()) == 5
    assert done == list(range(5))
