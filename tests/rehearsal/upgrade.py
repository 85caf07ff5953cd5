"""``python -m tests.rehearsal.upgrade [BASE]``: from a commit to this tree, process by process, under load."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.audit import find_losses
from tests.chaos.cluster import SubmittedJob, until
from tests.rehearsal.fleet import HERE, WORKERS, running_fleet

COMMITS_BACK = 20
"""To the base, where there is no tag yet."""


def base_commit() -> str:
    """The last tag before this commit, or a commit some while ago."""
    tagged = _git("describe", "--tags", "--abbrev=0", "HEAD^")
    if tagged:
        return tagged
    commits = _git("rev-list", "--first-parent", f"--max-count={COMMITS_BACK + 1}", "HEAD").split()
    return commits[-1]


def _git(*arguments: str) -> str:
    """What it prints; empty where it fails."""
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def check_out(commit: str, folder: Path) -> Path:
    """The tree of a commit."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=HERE, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    return folder


def rehearse(folder: Path, base: str, *, pause: float) -> list[str]:
    """What an upgrade in the order of docs/deployment.md has lost."""
    old = check_out(base, folder / "old")
    with running_fleet(folder / "data", old) as fleet:
        with fleet.load(pause):
            _wait_for(fleet.jobs, 4)
            for what in ("db.prepare", "api", *WORKERS, "beat"):
                begun, count = time.monotonic(), len(fleet.jobs)
                if what == "db.prepare":
                    fleet.run(HERE, what)
                else:
                    fleet.start(HERE, what)
                # some of the load meets each mixture of old and new
                _wait_for(fleet.jobs, count + 2)
                print(f"  {what}: {time.monotonic() - begun:.0f} s, {len(fleet.jobs)} jobs so far")  # noqa: T201
        fleet.finish()
        return find_losses(fleet, None)


def _wait_for(jobs: list[SubmittedJob], count: int) -> None:
    until(lambda: len(jobs) >= count, f"{count} jobs are taken")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default=base_commit(), help="a commit or a tag")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two recordings")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        losses = rehearse(Path(folder), arguments.base, pause=arguments.pause)
    print(f"upgraded from {arguments.base} under load; lost: {'; '.join(losses) or 'nothing'}")  # noqa: T201
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
