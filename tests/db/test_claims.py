"""Claiming: leases, fences, fairness, tenant limits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db.access import tenants
from db.models import Priority, StepKind, StepState
from db.queue import backlog, claims, leases
from db.queue.claims import Claim, claim_steps
from db.queue.transaction import held_transaction, job_transaction
from db.session import Sessions
from db.settings import Settings
from tests.jobs import add_chunks, make_job, steps_of

DRAFT = StepKind.DRAFT


def claim(sessions: Sessions, settings: Settings, limit: int = 1) -> list[Claim]:
    return claim_steps(sessions, DRAFT, limit, "tester", settings)


def expire_leases(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(text("UPDATE steps SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))


def test_a_step_is_claimed_once(sessions: Sessions, settings: Settings) -> None:
    add_chunks(sessions, make_job(sessions), 1)
    (claimed,) = claim(sessions, settings)
    assert claimed.attempt == 1
    assert claim(sessions, settings) == []


def test_concurrent_workers_claim_different_steps(sessions: Sessions, settings: Settings) -> None:
    add_chunks(sessions, make_job(sessions), 40)
    claimed: list[Claim] = []
    lock = threading.Lock()

    def work() -> None:
        while got := claim(sessions, settings, limit=2):
            with lock:
                claimed.extend(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(one.chunk_index for one in claimed)
    assert sorted(counts) == list(range(40))
    assert set(counts.values()) == {1}


def test_claiming_skips_locked_steps(sessions: Sessions, settings: Settings) -> None:
    add_chunks(sessions, make_job(sessions), 2)
    with sessions.begin() as other:
        other.execute(text("SELECT id FROM steps WHERE chunk = 0 AND kind = 'draft' FOR UPDATE"))
        (claimed,) = claim(sessions, settings)
    assert claimed.chunk == 1


def test_a_worker_that_lost_its_lease_cannot_finish_the_step(sessions: Sessions, settings: Settings) -> None:
    job_id = make_job(sessions)
    add_chunks(sessions, job_id, 1)
    (zombie,) = claim(sessions, settings)
    expire_leases(sessions)
    with sessions() as session:
        assert backlog.stalled_claims(session, settings) == [zombie]
    with job_transaction(sessions, job_id) as tx:
        assert leases.schedule_retry(tx.session, zombie, "went silent", delay=0)
    (successor,) = claim(sessions, settings)
    assert zombie.fence is not None
    assert successor.fence is not None
    assert successor.fence > zombie.fence
    with held_transaction(sessions, [zombie, successor]) as (_, held):
        assert list(held) == [successor]
    with job_transaction(sessions, job_id) as tx:
        assert not leases.finish(tx.session, {zombie: {}})
        assert leases.finish(tx.session, {successor: {"ok": True}})
    (step,) = steps_of(sessions, job_id, DRAFT)
    assert (step.state, step.result, step.attempt) == (StepState.DONE, {"ok": True}, 2)


def test_renewing_returns_the_leases_still_held(sessions: Sessions, settings: Settings) -> None:
    job_id = make_job(sessions)
    add_chunks(sessions, job_id, 2)
    first, second = claim(sessions, settings, limit=2)
    with job_transaction(sessions, job_id) as tx:
        leases.schedule_retry(tx.session, first, "busy", delay=60)
    assert leases.renew(sessions, [first, second], settings) == {second.id: True}
    with job_transaction(sessions, job_id) as tx:
        leases.finish(tx.session, {second: {}})
        assert leases.renew(sessions, [first, second], settings) == {second.id: False}


def test_a_retry_is_not_claimable_before_its_delay(sessions: Sessions, settings: Settings) -> None:
    job_id = make_job(sessions)
    add_chunks(sessions, job_id, 1)
    (claimed,) = claim(sessions, settings)
    with job_transaction(sessions, job_id) as tx:
        leases.schedule_retry(tx.session, claimed, "later", delay=60)
    assert claim(sessions, settings) == []


def test_a_retry_is_claimed_alone(sessions: Sessions, settings: Settings) -> None:
    job_id = make_job(sessions)
    add_chunks(sessions, job_id, 4)
    (failed,) = claim(sessions, settings)
    with job_transaction(sessions, job_id) as tx:
        leases.schedule_retry(tx.session, failed, "crashed", delay=0)
    batches = [[one.chunk for one in claim(sessions, settings, limit=8)] for _ in range(2)]
    assert sorted(batches) == [[0], [1, 2, 3]]


def test_a_short_job_does_not_wait_for_a_long_one(sessions: Sessions, settings: Settings) -> None:
    long = make_job(sessions)
    add_chunks(sessions, long, 200)
    for _ in range(3):
        claim(sessions, settings)
    short = make_job(sessions)
    add_chunks(sessions, short, 2)
    served = [claim(sessions, settings)[0].job_id for _ in range(4)]
    assert served.count(short) == 2
    assert served[0] == short


def test_a_batch_takes_from_every_waiting_job(sessions: Sessions, settings: Settings) -> None:
    ids = [make_job(sessions) for _ in range(4)]
    for job_id in ids:
        add_chunks(sessions, job_id, 10)
    assert Counter(one.job_id for one in claim(sessions, settings, limit=8)) == dict.fromkeys(ids, 2)


@pytest.mark.parametrize(("priority", "at_least"), [(Priority.HIGH, 5), (Priority.LOW, 0)])
def test_priority_weights_the_steps_of_a_batch(
    sessions: Sessions, settings: Settings, priority: Priority, at_least: int
) -> None:
    favoured = make_job(sessions, priority=priority)
    normal = make_job(sessions)
    for job_id in (favoured, normal):
        add_chunks(sessions, job_id, 20)
    counts = Counter(one.job_id for one in claim(sessions, settings, limit=8))
    assert counts[favoured] >= at_least
    assert (counts[favoured] > counts[normal]) == (priority == Priority.HIGH)


def test_a_low_priority_job_is_served_after_waiting(sessions: Sessions, settings: Settings) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    low = make_job(sessions, priority=Priority.LOW, created_at=long_ago)
    high = make_job(sessions, priority=Priority.HIGH)
    add_chunks(sessions, high, 20)
    claim(sessions, settings)
    add_chunks(sessions, low, 1)
    assert claim(sessions, settings)[0].job_id == low


def tenants_at_work(sessions: Sessions) -> Counter[str]:
    with sessions() as session:
        rows = session.execute(
            text(
                "SELECT j.tenant, count(*) FROM steps s JOIN jobs j ON j.id = s.job_id "
                "WHERE s.state = 'leased' AND s.kind = 'draft' GROUP BY 1"
            )
        )
        return Counter({tenant: count for tenant, count in rows})


def test_a_tenant_gets_no_more_than_its_limit(sessions: Sessions, settings: Settings) -> None:
    limited = settings.model_copy(update={"tenant_limits": {"acme": 3, "*": 5}})
    for tenant in ("acme", "acme", "other"):
        add_chunks(sessions, make_job(sessions, tenant=tenant), 10)

    held = claim(sessions, limited, limit=4)
    while more := claim(sessions, limited, limit=4):
        held += more
    assert tenants_at_work(sessions) == {"acme": 3, "other": 5}
    done = next(one for one in held if one.chunk is not None)
    with job_transaction(sessions, done.job_id) as tx:
        leases.finish(tx.session, {done: {}})
    assert len(claim(sessions, limited, limit=4)) == 1
    assert claim(sessions, settings, limit=8), "without limits the rest is there"


def test_a_tenants_row_says_how_much_it_gets(sessions: Sessions, settings: Settings) -> None:
    """It wins over the settings, for each tenant, from the next claim on."""
    with sessions.begin() as session:
        tenants.change(session, "acme", {"steps_at_once": 2})
        tenants.change(session, "idle", {"steps_at_once": 0, "jobs_at_once": 1})
    limited = settings.model_copy(update={"tenant_limits": {"acme": 9, "other": 3}})
    for tenant in ("acme", "other", "idle", "free"):
        add_chunks(sessions, make_job(sessions, tenant=tenant), 5)
    held: list[Claim] = []
    while more := claim(sessions, limited, limit=4):
        held += more
    assert tenants_at_work(sessions) == {"acme": 2, "other": 3, "free": 5}
    with sessions.begin() as session:
        tenants.change(session, "acme", {"steps_at_once": None})
    while claim(sessions, settings, limit=4):
        pass
    assert tenants_at_work(sessions) == {"acme": 5, "other": 5, "free": 5}


@pytest.mark.parametrize("share", ["setting", "row"])
def test_concurrent_workers_keep_to_a_tenants_limit(sessions: Sessions, settings: Settings, share: str) -> None:
    limited = settings.model_copy(update={"tenant_limits": {"*": 4} if share == "setting" else {}})
    if share == "row":
        with sessions.begin() as session:
            tenants.change(session, "default", {"steps_at_once": 4})
    for _ in range(4):
        add_chunks(sessions, make_job(sessions), 10)
    claimed: list[Claim] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            claimed.extend(claim(sessions, limited, limit=2))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 4


def test_who_comes_too_late_for_a_tenants_share_claims_of_others(
    sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = settings.model_copy(update={"tenant_limits": {"acme": 1}})
    add_chunks(sessions, make_job(sessions, tenant="acme"), 2)
    lock_tenants = claims._lock_tenants

    def overtaken(*arguments: Any) -> Sequence[str]:
        """Between its look at the tenants and its lock on the first one, another worker claims."""
        monkeypatch.setattr(claims, "_lock_tenants", lock_tenants)
        assert claim(sessions, limited)
        add_chunks(sessions, make_job(sessions, tenant="other"), 1)
        return ["acme"]

    monkeypatch.setattr(claims, "_lock_tenants", overtaken)
    assert [found.tenant for found in claim(sessions, limited)] == ["other"]


def test_steps_are_shared_by_priority_and_no_job_starves(sessions: Sessions, settings: Settings) -> None:
    """Six workers serve three jobs that never run dry: 4 to 2 to 1, as long as all of them wait alike."""
    ids = {priority: make_job(sessions, priority=priority) for priority in Priority}
    for job_id in ids.values():
        add_chunks(sessions, job_id, 60)
    served: Counter[str] = Counter()
    holding: list[Claim] = []
    for _ in range(70):
        (claimed,) = claim(sessions, settings)
        served[next(p for p, job_id in ids.items() if job_id == claimed.job_id)] += 1
        holding.append(claimed)
        if len(holding) > 6:
            oldest = holding.pop(0)
            with job_transaction(sessions, oldest.job_id) as tx:
                leases.finish(tx.session, {oldest: {}})
    assert served["low"] >= 7
    assert served["high"] > 1.5 * served["normal"] > 1.5 * 1.5 * served["low"] / 1.5
