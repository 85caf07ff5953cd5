"""A chaos run: transcripts of an undisturbed run first, then the same recordings while faults are injected."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tests.chaos.audit import find_losses
from tests.chaos.cluster import Cluster, until
from tests.chaos.faults import FAULTS, recordings

FAULT_GAP_SECONDS = (0.3, 1.5)
"""Shortest and longest pause between two faults."""


@dataclass
class Report:
    seed: int
    jobs: int
    seconds: float
    faults: Counter[str]
    losses: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        ran = f"seed {self.seed}: {self.jobs} jobs in {self.seconds:.0f} s"
        return f"{ran}, {self.faults.total()} faults ({counts}); lost: {'; '.join(self.losses) or 'nothing'}"


def undisturbed_transcripts(cluster: Cluster) -> dict[str, Any]:
    """The transcript of each recording without faults, by file name."""
    jobs = [cluster.submit(recording, {}) for recording in recordings()]
    cluster.finish()
    return {job.recording.name: cluster.transcript(job) for job in jobs}


def run_faults(
    cluster: Cluster,
    baseline: dict[str, Any],
    *,
    seed: int,
    rounds: int,
    jobs: int,
    faults: Collection[str] = tuple(FAULTS),
) -> Report:
    """Inject each fault once in each round, in an order that the seed decides, while jobs are submitted."""
    rng = random.Random(seed)
    started = time.monotonic()
    names = [name for _ in range(rounds) for name in rng.sample(sorted(faults), len(faults))]
    submissions = [rng.choice(recordings()) for _ in range(jobs)]
    injected: Counter[str] = Counter()

    def submit_jobs() -> None:
        for recording in submissions:
            cluster.submit(recording, {})
            time.sleep(submitter_rng.uniform(*FAULT_GAP_SECONDS) * rounds * len(faults) / jobs)

    submitter_rng = random.Random(seed + 1)
    submitter = threading.Thread(target=submit_jobs, daemon=True)
    submitter.start()
    for name in names:
        time.sleep(rng.uniform(*FAULT_GAP_SECONDS))
        FAULTS[name](cluster, rng)
        injected[name] += 1
    submitter.join()
    until(cluster.ready, "everything answers again")
    cluster.finish()
    return Report(seed, len(cluster.jobs), time.monotonic() - started, injected, find_losses(cluster, baseline))
