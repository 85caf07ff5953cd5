"""How a new draft model comes to serve, or does not."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.models import ModelVersion, Signal, VersionState
from db.session import Sessions
from db.training import versions
from db.training.versions import NotPossible, Record, worse
from tests.jobs import make_job

GOOD = Record(jobs=20, agreement=0.9, rejected=0.2, rtf=0.05, errors=0.0)
HOLD = 4


def register(session: Session, *, refused: str | None = None, tenant: str = "default") -> ModelVersion:
    version_id = uuid.uuid4()
    # the row of its fine-tuning may be long gone
    return versions.register(
        session, tenant, version_id, finetune_id=None, base="x", metrics={}, files={}, refused=refused
    )


def signal(sessions: Sessions, version: ModelVersion | None, **values: Any) -> None:
    """A finished job of a version."""
    job_id = make_job(sessions)
    given = {"agreement": 0.9, "rejected": 0.2, "rtf": 0.05, "errors": 0.0} | values
    with sessions.begin() as session:
        session.add(Signal(job_id=job_id, tenant="default", version_id=version.id if version else None, **given))
        session.flush()
        versions.review(session, "default", HOLD)


def now(sessions: Sessions, version: ModelVersion) -> ModelVersion:
    with sessions() as session:
        return session.get_one(ModelVersion, version.id)


def start(sessions: Sessions, **wanted: Any) -> ModelVersion:
    with sessions.begin() as session:
        return register(session, **wanted)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"agreement": 0.86}, "agree"),
        ({"rejected": 0.31}, "too far"),
        ({"rtf": 0.1}, "second of sound"),
        ({"errors": 0.05}, "gave up"),
    ],
)
def test_what_is_clearly_worse_is_told(change: dict[str, Any], word: str) -> None:
    complaint = worse(replace(GOOD, **change), GOOD)
    assert complaint is not None
    assert word in complaint


def test_what_is_a_little_worse_or_unknown_may_pass() -> None:
    assert worse(replace(GOOD, agreement=0.88, rejected=0.28, rtf=0.07, errors=0.01), GOOD) is None
    assert worse(GOOD, Record(0, None, None, None, None)) is None
    assert worse(Record(0, None, None, None, None), GOOD) is None


def test_a_good_candidate_goes_through_every_stage(sessions: Sessions) -> None:
    for _ in range(3):
        signal(sessions, None)
    version = start(sessions)
    stages = [version.stage]
    for _ in range(3 * HOLD):
        signal(sessions, version)
        stages.append(now(sessions, version).stage)
    assert stages == [5] * HOLD + [50] * HOLD + [100] * HOLD + [100]
    assert now(sessions, version).state == VersionState.SERVING


def test_a_bad_candidate_is_rolled_back_at_once_when_it_is_clear(sessions: Sessions) -> None:
    for _ in range(3):
        signal(sessions, None)
    version = start(sessions)
    states = []
    for _ in range(3):
        signal(sessions, version, agreement=0.5)
        states.append(now(sessions, version).state)
    assert states == [VersionState.CANARY, VersionState.CANARY, VersionState.ROLLED_BACK]
    reason = now(sessions, version).reason
    assert reason is not None
    assert "agree" in reason


def test_jobs_are_shared_out_by_a_stable_hash(sessions: Sessions) -> None:
    ids = [uuid.UUID(int=i << 64) for i in range(1000)]
    incumbent = start(sessions)
    with sessions.begin() as session:
        assert versions.choose(session, "other", ids[0]) is None
        versions.promote(session, session.get_one(ModelVersion, incumbent.id), "now")
    canary = start(sessions)
    with sessions() as session:
        given = {i: versions.choose(session, "default", i) for i in ids[:300]}
        assert given == {i: versions.choose(session, "default", i) for i in reversed(ids[:300])}
    assert set(given.values()) == {incumbent.id, canary.id}
    assert all((given[i] == canary.id) == (versions.share(i) < 5) for i in given)
    assert sum(versions.share(i) < 50 for i in ids) / len(ids) == pytest.approx(0.5, abs=0.06)


def test_promoting_retires_and_rolling_back_restores(sessions: Sessions) -> None:
    first, second = start(sessions), start(sessions)
    assert now(sessions, first).state == VersionState.ROLLED_BACK  # its place as the canary was taken
    with sessions.begin() as session:
        one, two = (session.get_one(ModelVersion, version.id) for version in (first, second))
        versions.promote(session, one, "by hand")
        versions.promote(session, two, "by hand")
        assert (one.state, two.state) == (VersionState.RETIRED, VersionState.SERVING)
        with pytest.raises(NotPossible):
            versions.promote(session, two, "again")
        versions.roll_back(session, two, "it was worse")
        assert (one.state, two.state) == (VersionState.SERVING, VersionState.ROLLED_BACK)
        with pytest.raises(NotPossible):
            versions.roll_back(session, two, "again")
        versions.roll_back(session, one, "so was this")
        assert versions.choose(session, "default", uuid.uuid4()) is None


def test_a_trial_that_was_cut_short_is_nothing_to_go_back_to(sessions: Sessions) -> None:
    first, second = start(sessions), start(sessions)
    with sessions.begin() as session:
        versions.promote(session, session.get_one(ModelVersion, first.id), "by hand")
    trial = start(sessions)
    with sessions.begin() as session:
        chosen = session.get_one(ModelVersion, second.id)
        versions.promote(session, chosen, "by hand")
        versions.roll_back(session, chosen, "it was worse")
    assert now(sessions, trial).state == VersionState.ROLLED_BACK
    assert now(sessions, first).state == VersionState.SERVING


def test_a_rejected_candidate_serves_nobody(sessions: Sessions) -> None:
    version = start(sessions, refused="It is worse.")
    assert (version.state, version.stage, version.reason) == (VersionState.REJECTED, 0, "It is worse.")
    with sessions() as session:
        assert {versions.choose(session, "default", uuid.uuid4()) for _ in range(50)} == {None}
    assert start(sessions).number == 2


def test_tenants_have_versions_of_their_own(sessions: Sessions) -> None:
    ours, theirs = start(sessions), start(sessions, tenant="other")
    assert (ours.number, theirs.number) == (1, 1)
    assert now(sessions, ours).state == now(sessions, theirs).state == VersionState.CANARY
    with sessions() as session:
        assert versions.get(session, "default", theirs.id) is None
