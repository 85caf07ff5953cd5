"""Lanes: what triggers count, in which order jobs are found, and how what is wrong is mended."""

from __future__ import annotations

import random
import threading
import uuid
from collections import defaultdict

import pytest
from sqlalchemy import text

from db import rounds
from db.access import tenants
from db.models import StepKind
from db.queue import backlog, claims, lanes, leases
from db.queue.claims import Claim, claim_steps
from db.queue.transaction import JobGone, job_transaction
from db.session import Sessions
from db.settings import Settings
from tests.jobs import add_chunks, make_job

DRAFT = StepKind.DRAFT


def claim(sessions: Sessions, settings: Settings, limit: int = 1, *, retries: bool = True) -> list[Claim]:
    return claim_steps(sessions, DRAFT, limit, "tester", settings, retries=retries)


def wrong_lanes(sessions: Sessions) -> list[uuid.UUID]:
    with sessions() as session:
        jobs = session.scalars(text("SELECT id FROM jobs UNION SELECT job_id FROM lanes")).all()
        return list(lanes.wrong(session, jobs))


def end_one(sessions: Sessions, held: list[Claim], chance: random.Random) -> None:
    claimed = held.pop(chance.randrange(len(held)))
    try:
        with job_transaction(sessions, claimed.job_id) as tx:
            match chance.choice(["finish", "retry later", "retry now", "requeue", "dead", "cancel", "delete"]):
                case "finish":
                    leases.finish(tx.session, {claimed: {"n": 1}})
                case "retry later":
                    leases.schedule_retry(tx.session, claimed, "later", delay=60)
                case "retry now":
                    leases.schedule_retry(tx.session, claimed, "now", delay=0)
                case "requeue":
                    leases.requeue(tx.session, claimed, "again")
                case "dead":
                    leases.mark_dead(tx.session, claimed, "dead")
                case "cancel" if chance.random() < 0.3:
                    tx.skip_open_steps()
                case "delete" if chance.random() < 0.3:
                    tx.session.delete(tx.job)
    except JobGone:
        pass


def test_lanes_count_whatever_happens(sessions: Sessions, settings: Settings) -> None:
    """Four workers do what workers do, in an order of a seed each; nobody counts but the triggers."""
    for _ in range(6):
        add_chunks(sessions, make_job(sessions), 8)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        held: list[Claim] = []
        for _ in range(40):
            held += claim(sessions, settings, limit=chance.randint(1, 3), retries=chance.random() < 0.8)
            while held and chance.random() < 0.6:
                end_one(sessions, held, chance)
            if chance.random() < 0.1:
                add_chunks(sessions, make_job(sessions), chance.randint(1, 4))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong_lanes(sessions) == []
    # and nothing that could be claimed is left out
    with sessions() as session:
        due = "kind = 'draft' AND state = 'ready' AND run_after <= clock_timestamp()"
        waiting = session.scalars(text(f"SELECT count(*) FROM steps WHERE {due}")).one()  # noqa: S608
        assert backlog.count_claimable(session, {DRAFT: 1000})[DRAFT] == waiting
    claimed = 0
    while got := claim(sessions, settings, limit=4):
        claimed += len(got)
    assert claimed == waiting


def test_a_lane_goes_with_its_last_step(sessions: Sessions, settings: Settings) -> None:
    job_id = make_job(sessions)
    add_chunks(sessions, job_id, 1)
    (claimed,) = claim(sessions, settings)
    with job_transaction(sessions, job_id) as tx:
        leases.finish(tx.session, {claimed: {}})
        tx.skip_open_steps()
    with sessions() as session:
        assert session.scalars(text("SELECT count(*) FROM lanes")).one() == 0


def test_what_may_not_run_yet_hides_nothing(sessions: Sessions, settings: Settings) -> None:
    """Jobs whose steps wait for another attempt stand first in the order, and are passed over."""
    for _ in range(30):
        job_id = make_job(sessions)
        add_chunks(sessions, job_id, 2)
        for claimed in claim(sessions, settings, limit=2):
            with job_transaction(sessions, job_id) as tx:
                leases.requeue(tx.session, claimed, "away", delay=60)
    late = make_job(sessions)
    add_chunks(sessions, late, 3)
    assert {one.job_id for one in claim(sessions, settings, limit=3)} == {late}
    assert claim(sessions, settings, limit=3) == []
    with sessions.begin() as session:
        session.execute(text("UPDATE steps SET run_after = now() WHERE state = 'ready'"))
    assert len(claim(sessions, settings, limit=64)) == 60


def test_a_lane_that_is_wrongly_awake_is_put_to_sleep(sessions: Sessions, settings: Settings) -> None:
    first, second = make_job(sessions), make_job(sessions)
    for job_id in (first, second):
        add_chunks(sessions, job_id, 2)
    with sessions.begin() as session:
        # of three, the triggers do not know which one is due next
        session.execute(text("UPDATE steps SET run_after = now() + interval '60 s' WHERE chunk = 1"))
    assert {one.job_id for one in claim(sessions, settings, limit=2)} == {first, second}
    assert claim(sessions, settings) == []
    with sessions() as session:
        assert session.scalars(text("SELECT bool_and(asleep) FROM lanes WHERE kind = 'draft'")).one()


def test_a_full_tenant_hides_nobody(sessions: Sessions, settings: Settings) -> None:
    with sessions.begin() as session:
        tenants.change(session, "flood", {"steps_at_once": 1})
    for _ in range(40):
        add_chunks(sessions, make_job(sessions, tenant="flood"), 1)
    add_chunks(sessions, make_job(sessions, tenant="other"), 3)
    held = [one for _ in range(5) for one in claim(sessions, settings, limit=2)]
    assert len(held) == 4
    assert claim(sessions, settings) == []


def test_the_walk_over_tenants_passes_those_that_sleep(
    sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of their names, whichever came first; it goes on where it was, whatever is served between."""
    asked_until: defaultdict[str, str] = defaultdict(str)
    monkeypatch.setattr(claims, "_asked_until", asked_until)
    limited = settings.model_copy(update={"tenant_limits": {"*": 5}})
    awake = [f"b{number:02}" for number in range(claims.FOUND_TENANTS + 1)]
    for tenant in (*reversed(awake), *(f"a{number:02}" for number in range(claims.FOUND_TENANTS))):
        add_chunks(sessions, make_job(sessions, tenant=tenant), 2)
    with sessions.begin() as session:
        session.execute(
            text(
                "UPDATE steps SET run_after = now() + interval '60 s' FROM jobs "
                "WHERE jobs.id = steps.job_id AND kind = 'draft' AND tenant LIKE 'a%'"
            )
        )
    with monkeypatch.context() as without_front:
        without_front.setattr(claims, "LOCK_FIRST_TENANTS_QUERIES", [])
        assert claim(sessions, limited)[0].tenant in awake[:-1]
        assert asked_until[DRAFT] == awake[-2]
    assert claim(sessions, limited)
    assert asked_until[DRAFT] == awake[-2], "this one was among the first of all"
    monkeypatch.setattr(claims, "LOCK_FIRST_TENANTS_QUERIES", [])
    assert claim(sessions, limited)[0].tenant == awake[-1]
    assert asked_until[DRAFT] == ""


def test_wrong_lanes_are_made_anew(
    sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make_job(sessions) for _ in range(5)]
    for job_id in jobs:
        add_chunks(sessions, job_id, 2)
    with sessions.begin() as session:
        session.execute(text("DELETE FROM lanes WHERE job_id = :job"), {"job": jobs[0]})
        session.execute(text("UPDATE lanes SET ready = 7 WHERE job_id = :job"), {"job": jobs[1]})
        asleep = "UPDATE lanes SET asleep = true, next_at = 'infinity' WHERE job_id = :job"
        session.execute(text(asleep), {"job": jobs[2]})
    assert set(wrong_lanes(sessions)) == set(jobs[:3])
    seen: set[uuid.UUID] = set()
    while seen != set(jobs):
        with sessions() as session:
            some = lanes.some_jobs(session, 2)
            suspects = lanes.wrong(session, some)
        assert len(some) == 2
        seen |= set(some)
        for job_id in suspects:
            with sessions.begin() as session:
                assert lanes.repair(session, job_id)
    assert wrong_lanes(sessions) == []
    assert len(claim(sessions, settings, limit=16)) == 10
    by_id = sorted(jobs)
    for after, expected in ((by_id[1], by_id[2:4]), (by_id[3], [by_id[0], by_id[4]])):
        with monkeypatch.context() as chosen, sessions() as session:
            chosen.setattr("uuid.uuid4", lambda after=after: after)
            assert sorted(lanes.some_jobs(session, 2)) == expected, "each is compared as often as the others"
            assert sorted(lanes.some_jobs(session, 9)) == by_id


def test_one_worker_heals_a_round(sessions: Sessions) -> None:
    begun: list[bool] = []

    def look() -> None:
        begun.append(rounds.begin(sessions, rounds.HEALING, 60))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) == [False, False, False, True]


@pytest.mark.parametrize("clock", ["-1 hour", "1 hour"])
def test_a_clock_that_was_wrong_stops_no_healing(sessions: Sessions, clock: str) -> None:
    with sessions.begin() as session:
        session.execute(
            text("UPDATE rounds SET done_until = clock_timestamp() + CAST(:by AS interval)"), {"by": clock}
        )
    assert rounds.begin(sessions, rounds.HEALING, 5)
    assert not rounds.begin(sessions, rounds.HEALING, 5)
