"""A system of real processes, each of which may run the code of another tree, and a load on it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from cli.stack.process import free_port
from cli.stack.product import Api, Beat, Product, Worker
from cli.stack.stack import SERVERS
from db.session import make_sessions
from longhand import Client
from tests.chaos.cluster import SHORT_INTERVALS, SubmittedJob, comparable, until
from tests.chaos.faults import recordings
from tests.conftest import settings_from

HERE = Path(__file__).parents[2]
WORKERS = ("cpu", "gpu", "io")


class OfTree(Product):
    """A process that runs the code of a tree."""

    tree = HERE

    @property
    def working_directory(self) -> Path:
        return self.tree

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "PYTHONPATH": str(self.tree)}


class TreeApi(OfTree, Api):
    pass


class TreeWorker(OfTree, Worker):
    pass


class TreeBeat(OfTree, Beat):
    pass


class Fleet:
    """Servers, and processes of the product by name. ``jobs`` are those that were accepted."""

    def __init__(self, servers: Mapping[str, str], folder: Path) -> None:
        self.environment = {**SHORT_INTERVALS, **servers}
        self.settings = settings_from(self.environment)
        self.sessions = make_sessions(self.settings, name="rehearsal")
        self.jobs: list[SubmittedJob] = []
        self._folder, self._port = folder, free_port()
        self._running: dict[str, OfTree] = {}
        self.client = Client(f"http://127.0.0.1:{self._port}")

    def run(self, tree: Path, *arguments: str) -> str:
        """Run a module of a tree to its end. Returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tree,
            env=os.environ | self.environment | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout
        return done.stdout

    def start(self, tree: Path, name: str) -> None:
        """Start a process of that tree beside the one of its name, which then ends; the API's ends before."""
        log = self._folder / "logs" / f"{name}-{tree.name}.log"
        before = self._running.pop(name, None)
        if name == "api" and before is not None:
            before.stop()
        made: OfTree
        if name == "api":
            made = TreeApi(self.environment, log, port=self._port)
        elif name == "beat":
            made = TreeBeat(self.environment, log)
        else:
            made = TreeWorker(name, self.environment, log)
        made.tree = tree
        made.start()
        self._running[name] = made
        if name != "api" and before is not None:
            before.stop()

    def stop(self) -> None:
        for process in self._running.values():
            process.ask_to_stop()
        for process in self._running.values():
            process.wait_stopped(process.stop_seconds)
        self._running.clear()
        self.sessions.kw["bind"].dispose()

    def submit(self, recording: Path) -> SubmittedJob:
        """Upload until it is taken, every other time piece by piece."""
        send = self._send_pieces if len(self.jobs) % 2 else self._send_whole
        key = uuid.uuid4().hex
        job_id = until(lambda: send(recording, key), "an upload is taken")
        self.jobs.append(SubmittedJob(recording, job_id))
        return self.jobs[-1]

    def _send_whole(self, recording: Path, key: str) -> str:
        return self.client.jobs.submit(recording, idempotency_key=key)["id"]

    def _send_pieces(self, recording: Path, key: str) -> str:
        upload = self.client.uploads.create(recording)
        self.client.uploads.send(upload["id"], recording)
        return self.client.jobs.submit_upload(upload["id"], idempotency_key=key)["id"]

    @contextlib.contextmanager
    def load(self, pause: float) -> Iterator[None]:
        """Recordings come, one after the other, ``pause`` seconds apart, until the block ends."""
        over, failures = threading.Event(), list[BaseException]()

        def keep_submitting() -> None:
            try:
                for recording in cycle(recordings()):
                    if over.wait(pause):
                        return
                    self.submit(recording)
            except BaseException as error:
                failures.append(error)
                raise

        submitter = threading.Thread(target=keep_submitting, daemon=True)
        submitter.start()
        try:
            yield
        finally:
            over.set()
            submitter.join()
        assert not failures, failures

    def finish(self) -> None:
        """Wait for the end of every job, and read its events from the first to the last."""
        for job in self.jobs:
            until(lambda job=job: self._ended(job), f"job {job.job_id} ends")  # type: ignore[misc]
            job.events = list(self.client.jobs.events(job.job_id))

    def _ended(self, job: SubmittedJob) -> bool:
        return self.client.jobs.get(job.job_id)["status"] in ("completed", "failed", "cancelled")

    def transcript(self, job: SubmittedJob) -> dict[str, Any]:
        return comparable(self.client.jobs.transcript(job.job_id))


@contextlib.contextmanager
def running_servers(folder: Path) -> Iterator[Mapping[str, str]]:
    """PostgreSQL, Redis and S3 with their data in a folder. Yields the environment that leads to them."""
    started = [server(folder / name) for name, server in SERVERS.items()]
    with contextlib.ExitStack() as stack:
        for server in started:
            stack.callback(server.stop)
            server.start()
        environment = {"LONGHAND_DATA_DIR": str(folder)}
        for server in started:
            environment |= server.env
        yield environment


@contextlib.contextmanager
def running_fleet(folder: Path, tree: Path, names: Sequence[str] = ("api", *WORKERS, "beat")) -> Iterator[Fleet]:
    """A fleet of one tree."""
    with running_servers(folder) as servers:
        fleet = Fleet(servers, folder)
        fleet.run(tree, "db.prepare")
        try:
            for name in names:
                fleet.start(tree, name)
            yield fleet
        finally:
            fleet.stop()
