"""The rollout of a new draft model: stages, promotion and rollback."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.models import ModelVersion, Role, Signal, VersionState
from db.session import Sessions
from db.training import canary, versions
from db.training.canary import SignalAverages, find_regression
from db.training.versions import InvalidTransition
from tests.jobs import make_job

GOOD = SignalAverages(jobs=20, agreement=0.9, rejected=0.2, rtf=0.05, errors=0.0, loops=0.0, corrections=2.0)
JOBS_PER_STAGE = 4


def register(
    session: Session, *, rejection: str | None = None, tenant: str = "default", role: Role = Role.DRAFT
) -> ModelVersion:
    version_id = uuid.uuid4()
    # the row of its fine-tuning may be long gone
    return versions.register(
        *(session, tenant, role, version_id),
        engine="sensevoice",
        finetune_id=None,
        base="x",
        metrics={},
        files={},
        rejection=rejection,
    )


def add_signal(sessions: Sessions, version: ModelVersion | None, **values: Any) -> None:
    """Store the signal of a finished job and review the canary."""
    job_id = make_job(sessions)
    signals = {"agreement": 0.9, "rejected": 0.2, "rtf": 0.05, "errors": 0.0} | values
    with sessions.begin() as session:
        role = version.role if version else Role.DRAFT
        row = Signal(job_id=job_id, role=role, tenant="default", version_id=version and version.id, **signals)
        session.add(row)
        session.flush()
        canary.review(session, "default", role, JOBS_PER_STAGE)


def current(sessions: Sessions, version: ModelVersion) -> ModelVersion:
    with sessions() as session:
        return session.get_one(ModelVersion, version.id)


def start(sessions: Sessions, **options: Any) -> ModelVersion:
    with sessions.begin() as session:
        return register(session, **options)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"agreement": 0.86}, "agree"),
        ({"rejected": 0.31}, "too far"),
        ({"rtf": 0.1}, "second of sound"),
        ({"errors": 0.05}, "gave up"),
        ({"loops": 0.03}, "repeats itself"),
        ({"corrections": 4.0}, "People correct"),
    ],
)
def test_a_regression_is_described(change: dict[str, Any], word: str) -> None:
    regression = find_regression(Role.DRAFT, replace(GOOD, **change), GOOD)
    assert regression is not None
    assert word in regression


def test_small_losses_and_missing_values_are_no_regression() -> None:
    assert (
        find_regression(Role.DRAFT, replace(GOOD, agreement=0.88, rejected=0.28, rtf=0.07, errors=0.01), GOOD)
        is None
    )
    assert find_regression(Role.DRAFT, GOOD, SignalAverages(0, None, None, None, None)) is None
    assert find_regression(Role.DRAFT, SignalAverages(0, None, None, None, None), GOOD) is None


def test_a_good_candidate_goes_through_every_stage(sessions: Sessions) -> None:
    for _ in range(3):
        add_signal(sessions, None)
    version = start(sessions)
    stages = [version.stage]
    for _ in range(3 * JOBS_PER_STAGE):
        add_signal(sessions, version)
        stages.append(current(sessions, version).stage)
    assert stages == [5] * JOBS_PER_STAGE + [50] * JOBS_PER_STAGE + [100] * JOBS_PER_STAGE + [100]
    assert current(sessions, version).state == VersionState.SERVING


def test_a_bad_candidate_is_rolled_back_before_its_stage_ends(sessions: Sessions) -> None:
    for _ in range(3):
        add_signal(sessions, None)
    version = start(sessions)
    states = []
    for _ in range(3):
        add_signal(sessions, version, agreement=0.5)
        states.append(current(sessions, version).state)
    assert states == [VersionState.CANARY, VersionState.CANARY, VersionState.ROLLED_BACK]
    reason = current(sessions, version).reason
    assert reason is not None
    assert "agree" in reason


def test_speed_is_compared_with_jobs_of_the_same_time(sessions: Sessions) -> None:
    for _ in range(3):
        add_signal(sessions, None)
    busy, slow = start(sessions), {"rtf": 0.5}
    add_signal(sessions, None, **slow)
    for _ in range(3 * JOBS_PER_STAGE):
        add_signal(sessions, busy, **slow)
    assert current(sessions, busy).state == VersionState.SERVING
    # another that is slow while what serves is as it was
    add_signal(sessions, busy, **slow)
    slower = start(sessions)
    add_signal(sessions, busy)
    for _ in range(3):
        add_signal(sessions, slower, **slow)
    assert current(sessions, slower).state == VersionState.ROLLED_BACK
    assert "0.500 s for a second of sound, the incumbent 0.050 s" in str(current(sessions, slower).reason)


def test_jobs_are_assigned_by_a_stable_hash(sessions: Sessions) -> None:
    ids = [uuid.UUID(int=i << 64) for i in range(1000)]
    incumbent = start(sessions)
    with sessions.begin() as session:
        assert versions.select_for_job(session, "other", Role.DRAFT, ids[0]) is None
        versions.promote(session, session.get_one(ModelVersion, incumbent.id), "now")
    on_trial = start(sessions)
    with sessions() as session:
        assigned = {i: versions.select_for_job(session, "default", Role.DRAFT, i) for i in ids[:300]}
        assert assigned == {
            i: versions.select_for_job(session, "default", Role.DRAFT, i) for i in reversed(ids[:300])
        }
    assert set(assigned.values()) == {incumbent.id, on_trial.id}
    assert all((assigned[i] == on_trial.id) == (versions.bucket(i, Role.DRAFT) < 5) for i in assigned)
    assert sum(versions.bucket(i, Role.DRAFT) < 50 for i in ids) / len(ids) == pytest.approx(0.5, abs=0.06)


def test_promoting_retires_and_rolling_back_restores(sessions: Sessions) -> None:
    first, second = start(sessions), start(sessions)
    assert current(sessions, first).state == VersionState.ROLLED_BACK  # its place as the canary was taken
    with sessions.begin() as session:
        one, two = (session.get_one(ModelVersion, version.id) for version in (first, second))
        versions.promote(session, one, "by hand")
        versions.promote(session, two, "by hand")
        assert (one.state, two.state) == (VersionState.RETIRED, VersionState.SERVING)
        with pytest.raises(InvalidTransition):
            versions.promote(session, two, "again")
        versions.roll_back(session, two, "it was worse")
        assert (one.state, two.state) == (VersionState.SERVING, VersionState.ROLLED_BACK)
        with pytest.raises(InvalidTransition):
            versions.roll_back(session, two, "again")
        versions.roll_back(session, one, "so was this")
        assert versions.select_for_job(session, "default", Role.DRAFT, uuid.uuid4()) is None


def test_a_rollback_does_not_return_to_a_replaced_canary(sessions: Sessions) -> None:
    first, second = start(sessions), start(sessions)
    with sessions.begin() as session:
        versions.promote(session, session.get_one(ModelVersion, first.id), "by hand")
    trial = start(sessions)
    with sessions.begin() as session:
        promoted = session.get_one(ModelVersion, second.id)
        versions.promote(session, promoted, "by hand")
        versions.roll_back(session, promoted, "it was worse")
    assert current(sessions, trial).state == VersionState.ROLLED_BACK
    assert current(sessions, first).state == VersionState.SERVING


def test_a_rejected_candidate_drafts_no_job(sessions: Sessions) -> None:
    version = start(sessions, rejection="It is worse.")
    assert (version.state, version.stage, version.reason) == (VersionState.REJECTED, 0, "It is worse.")
    with sessions() as session:
        assert {versions.select_for_job(session, "default", Role.DRAFT, uuid.uuid4()) for _ in range(50)} == {None}
    assert start(sessions).number == 2


def test_tenants_have_versions_of_their_own(sessions: Sessions) -> None:
    ours, theirs = start(sessions), start(sessions, tenant="other")
    assert (ours.number, theirs.number) == (1, 1)
    assert current(sessions, ours).state == current(sessions, theirs).state == VersionState.CANARY
    with sessions() as session:
        assert versions.get(session, "default", theirs.id) is None
