"""``python -m tests.chaos [--seed N] [--rounds N] [--jobs N]``: a long run of the chaos suite."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.chaos.hostile import attack
from tests.chaos.run import calm, storm
from tests.chaos.world import world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--rounds", type=int, default=5, help="how often every fault comes")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--files", type=int, default=500, help="files made to do harm")
    given = parser.parse_args()
    with TemporaryDirectory() as folder, world(Path(folder)) as made:
        report = storm(made, calm(made), seed=given.seed, rounds=given.rounds, jobs=given.jobs)
        print(report)  # noqa: T201
        hostile = attack(made, Path(folder), count=given.files, seed=given.seed)
        Console(width=110).print(hostile.table())
        if report.lost:
            print("\n".join(made.said))  # noqa: T201
    return 1 if report.lost or hostile.workers_lost or hostile.attempts_spent else 0


if __name__ == "__main__":
    sys.exit(main())
