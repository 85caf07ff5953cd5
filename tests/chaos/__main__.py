"""``python -m tests.chaos [--seed N] [--rounds N] [--jobs N] [--hosts N]``: a long run of the chaos suite."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.chaos.cluster import running_cluster
from tests.chaos.hostile import attack
from tests.chaos.run import run_faults, undisturbed_transcripts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--rounds", type=int, default=5, help="how often every fault comes")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=1, help="hosts with an API and workers")
    parser.add_argument("--files", type=int, default=500, help="files made to do harm")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, running_cluster(Path(folder), hosts=arguments.hosts) as cluster:
        report = run_faults(
            cluster,
            undisturbed_transcripts(cluster),
            seed=arguments.seed,
            rounds=arguments.rounds,
            jobs=arguments.jobs,
        )
        print(report)  # noqa: T201
        hostile = attack(cluster, Path(folder), count=arguments.files, seed=arguments.seed)
        Console(width=110).print(hostile.table())
        if report.losses:
            print("\n".join(cluster.log_lines))  # noqa: T201
    return 1 if report.losses or not hostile.harmless else 0


if __name__ == "__main__":
    sys.exit(main())
