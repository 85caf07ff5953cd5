"""``python -m tests.rehearsal.restore``: a backup under load, everything wiped, a restore, and an audit."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import select

from cli.stack.stack import SERVERS
from db.models import Job
from tests.chaos.audit import find_losses
from tests.chaos.cluster import SubmittedJob
from tests.chaos.faults import recordings
from tests.rehearsal.fleet import HERE, WORKERS, Fleet, running_fleet, running_servers


def rehearse(folder: Path, *, seconds: float, pause: float) -> list[str]:
    """What a restore has lost. Backups are taken again and again for so long, under a load."""
    data, saved = folder / "data", folder / "saved"
    with running_fleet(data, HERE) as fleet:
        for recording in recordings():
            fleet.submit(recording)
        fleet.finish()
        baseline = {job.recording.name: fleet.transcript(job) for job in fleet.jobs}
        begun, backups = time.monotonic(), 0
        with fleet.load(pause):
            # the last one is restored, and those before it are what it builds on
            while time.monotonic() - begun < seconds or not backups:
                before = [job.job_id for job in fleet.jobs]
                print(f"  {fleet.run(HERE, 'db.backup', 'save', str(saved)).strip()}")  # noqa: T201
                backups += 1
            after = list(fleet.jobs)
    for server in SERVERS:
        shutil.rmtree(data / server)
    with running_servers(data) as servers:
        restored = Fleet(servers, data)
        print(f"  {restored.run(HERE, 'db.backup', 'restore', str(saved)).strip()}")  # noqa: T201
        try:
            for name in ("api", *WORKERS, "beat"):
                restored.start(HERE, name)
            return _audit(restored, before, after, baseline)
        finally:
            restored.stop()


def _audit(
    restored: Fleet, before: list[str], accepted: list[SubmittedJob], baseline: dict[str, dict[str, object]]
) -> list[str]:
    """What was accepted before the backup began is there; what came while it ran may be; all that is completes."""
    with restored.sessions() as session:
        there = set(map(str, session.scalars(select(Job.id))))
    restored.jobs = [SubmittedJob(job.recording, job.job_id) for job in accepted if job.job_id in there]
    gone = [
        f"job {job_id} was accepted before the backup, and is gone" for job_id in before if job_id not in there
    ]
    restored.finish()
    print(f"  {len(before)} jobs were accepted before the backup, {len(there)} are restored")  # noqa: T201
    return gone + find_losses(restored, baseline)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of backups under load")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two recordings")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        losses = rehearse(Path(folder), seconds=arguments.seconds, pause=arguments.pause)
    print(f"restored after a backup under load; lost: {'; '.join(losses) or 'nothing'}")  # noqa: T201
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
