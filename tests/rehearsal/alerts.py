"""``python -m tests.rehearsal.alerts``: causes each alert in a stack of real processes, and mends what caused it.

A real Prometheus has the rules, in which every duration is a FACTOR shorter. Needs its Debian package, and root
for a small disk that is filled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import sync_playwright
from sqlalchemy import func, select

from cli.observe.processes import DASHBOARD, RULES, Prometheus
from cli.stack.process import HOST, free_port
from cli.stack.product import Api, Product, Worker
from cli.stack.stack import SERVERS
from db.models import Role, Step, StepKind, StepState
from db.session import make_sessions
from db.training import versions
from longhand import Client, JobOptions, LonghandError
from tests.chaos.cluster import SHORT_INTERVALS
from tests.chaos.worker import COST, POISON
from tests.conftest import settings_from
from tests.waiting import until

FACTOR = 60
"""By which the rules' durations are shorter: ``for: 5m`` are five seconds, ten minutes of age are ten seconds."""

LIMIT_SECONDS = 900.0
DISK_MIB = 2000
RECORDING = Path(__file__).parents[1] / "data" / "jfk.flac"
RECORDING_SECONDS = 11
WORKERS = ("cpu", "gpu", "io")
SHOWN = (
    "Waiting steps",
    "Age of the oldest",
    "Time to the first draft",
    "Seconds of a step (95 %)",
    "Seconds for a second of speech",
    "Busy slots",
)
"""Panels of the dashboard."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"(for: |interval: |\[|offset )(\d+)([smh])\b")
AGE = re.compile(r"(longhand_queue_oldest_age_seconds\{[^}]*\}\) > )(\d+)")

Alert = tuple[str, str]
"""Its name and severity."""


def shortened(rules: str) -> str:
    """The rules with every duration a FACTOR shorter, but for how long certificates are valid."""

    def milliseconds(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * UNITS[found[3]] * 1000 // FACTOR}ms"

    rules, ages = AGE.subn(lambda found: f"{found[1]}{int(found[2]) // FACTOR}", DURATION.sub(milliseconds, rules))
    assert ages == 1
    return rules


class HastyPrometheus(Prometheus):
    """Asks every second."""

    rules: Path

    def _configuration(self) -> Mapping[str, object]:
        often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        return {**super()._configuration(), "global": often, "rule_files": [str(self.rules)]}


class Rehearsal:
    """A stack whose parts come and go, a load on it, and what Prometheus says of it."""

    def __init__(self, folder: Path, disk: Path) -> None:
        self.folder, self.disk = folder, disk
        self.servers = {name: server(disk / name) for name, server in SERVERS.items()}
        self.certificate = folder / "authority.pem"
        self.environment = {
            **SHORT_INTERVALS,
            "LONGHAND_DATA_DIR": str(disk),
            "LONGHAND_MAX_ATTEMPTS": "2",
            "LONGHAND_REFINE_BATCH": "8",
            "LONGHAND_MIN_FREE_BYTES": str(DISK_MIB * 2**20 // 12),
            "LONGHAND_S3_CA_BUNDLE": str(self.certificate),
            "LONGHAND_WEBHOOK_PRIVATE": '["127.0.0.0/8"]',
            "LONGHAND_METRICS_TOKEN": uuid.uuid4().hex,
        }
        self.ports = {name: free_port() for name in ("api", *WORKERS, "prometheus")}
        self.client = Client(f"http://{HOST}:{self.ports['api']}")
        self.running: dict[str, Product] = {}
        self.prometheus = HastyPrometheus(
            folder / "prometheus",
            folder / "logs" / "prometheus.log",
            port=self.ports["prometheus"],
            targets={"api": [self.ports["api"]], "workers": [self.ports[name] for name in WORKERS]},
            token=self.environment["LONGHAND_METRICS_TOKEN"],
        )
        self.prometheus.rules = folder / "rules.yml"
        self.prometheus.rules.write_text(shortened(RULES.read_text()))
        self.seen: dict[Alert, float] = {}
        """When it came first, in seconds since the beginning."""
        self.began = time.monotonic()

    def start_servers(self) -> None:
        for server in self.servers.values():
            server.start()
            self.environment |= server.env
        subprocess.run(
            [sys.executable, "-m", "db.prepare"],
            env={**os.environ, **self.environment},
            capture_output=True,
            check=True,
        )
        self.sessions = make_sessions(settings_from(self.servers["postgres"].env), name="rehearsal")

    def start(self, name: str) -> None:
        log = self.folder / "logs" / f"{name}.log"
        made: Product
        if name == "api":
            made = Api(self.environment, log, port=self.ports["api"])
        else:
            own = {"LONGHAND_METRICS_PORT": str(self.ports[name])}
            made = Worker(name, self.environment | own, log, module="tests.chaos.worker")
        self.running[name] = made
        made.start()

    def kill(self, name: str) -> None:
        self.running[name].wait_stopped(0)

    def stop(self) -> None:
        for process in (*self.running.values(), self.prometheus, *reversed(self.servers.values())):
            process.stop()

    def submit(self, *, cost: float = 0.05, **options: object) -> str:
        """A recording whose refinement takes ``cost`` seconds."""
        wanted = {"diarize": False, "language": "en", "hotwords": [f"{COST} {cost}"], **options}
        return self.client.jobs.submit(RECORDING, JobOptions(**wanted))["id"]  # type: ignore[typeddict-item]

    @contextlib.contextmanager
    def load(self, pause: float) -> Iterator[None]:
        """Recordings come, ``pause`` seconds apart. What is refused is not sent again."""
        over = threading.Event()

        def keep_submitting() -> None:
            while not over.wait(pause):
                with contextlib.suppress(LonghandError, httpx.HTTPError):
                    self.submit()

        submitter = threading.Thread(target=keep_submitting)
        submitter.start()
        try:
            yield
        finally:
            over.set()
            submitter.join()

    def refinements(self, state: StepState) -> int:
        """Steps of refinement that wait, or that the worker holds."""
        with self.sessions() as session:
            counted = select(func.count()).where(Step.kind == StepKind.REFINE, Step.state == state)
            return session.scalar(counted) or 0

    def firing(self) -> set[Alert]:
        answer = httpx.get(f"{self.prometheus.url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        found = {
            (alert["labels"]["alertname"], alert["labels"]["severity"])
            for alert in answer
            if alert["state"] == "firing"
        }
        for alert in found - self.seen.keys():
            self.seen[alert] = time.monotonic() - self.began
            print(f"{self.seen[alert]:6.0f} s  {alert[0]} ({alert[1]})", flush=True)  # noqa: T201
        return found

    def come(self, *alerts: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until alerts of these names are firing, or have been."""
        print(f"{time.monotonic() - self.began:6.0f} s  caused: {', '.join(alerts)}", flush=True)  # noqa: T201

        def came() -> bool:
            meanwhile()
            self.firing()
            return set(alerts) <= {name for name, _ in self.seen}

        until(came, f"{', '.join(alerts)} come", seconds=LIMIT_SECONDS)

    def all_gone(self) -> None:
        until(lambda: not self.firing(), "all alerts have gone", seconds=LIMIT_SECONDS)


def rehearse(stage: Rehearsal, pictures: Path | None) -> None:
    """Cause every alert, one after the other, and mend what caused it."""
    stage.certificate.write_bytes(authority(timedelta(days=10)))
    stage.start_servers()
    for name in ("api", *WORKERS):
        stage.start(name)
    stage.prometheus.start()
    stage.come("LonghandCertificateExpires")
    stage.certificate.write_bytes(authority(timedelta(days=90)))
    version = canary(stage)
    until(lambda: stage.firing() == set(), "the new certificate is seen", seconds=LIMIT_SECONDS)
    stage.client.versions.roll_back(version)
    stage.come("LonghandCanaryRolledBack")
    # without a load, whose jobs would be in time
    late_and_without_workers(stage)
    if pictures is not None:
        photograph(stage, "alerts", pictures / "prometheus-alerts.png")
    with failing_receiver() as url, stage.load(pause=3):
        webhook = stage.client.webhooks.create(url, ["job.completed"])
        stage.come("LonghandWebhooksFail")
        stage.client.webhooks.delete(webhook["id"])
    poison_and_silence(stage)
    full_disk(stage)
    no_database(stage)
    if pictures is not None:
        photograph(stage, graphs(stage), pictures / "prometheus-graphs.png")
    stage.all_gone()


def graphs(stage: Rehearsal) -> str:
    """Main graphs of the dashboard, as a path in the pages of Prometheus."""
    board = json.loads(DASHBOARD.read_text())["panels"]
    minutes = 1 + int(time.monotonic() - stage.began) // 60
    shown = [target["expr"] for panel in board if panel["title"] in SHOWN for target in panel["targets"][:1]]
    return "graph?" + "&".join(
        f"g{place}.tab=0&g{place}.range_input={minutes}m&g{place}.expr="
        + quote(expression.replace("$__rate_interval", "15s"))
        for place, expression in enumerate(shown)
    )


def photograph(stage: Rehearsal, path: str, picture: Path) -> None:
    """A picture of a page of Prometheus."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(f"{stage.prometheus.url}/classic/{path}", wait_until="networkidle")
        page.add_style_tag(content=".fixed-top { position: absolute }")
        page.screenshot(path=picture, full_page=True)
        browser.close()


def late_and_without_workers(stage: Rehearsal) -> None:
    """Nobody cuts and drafts for a while, and then nobody refines."""
    stage.kill("cpu")
    for _ in range(20):
        stage.submit(hotwords=[])  # by real engines: what is simulated hears nothing, and so has no first segment
    stage.come("LonghandDown", "LonghandNoWorker", "LonghandQueueOld")
    stage.start("cpu")
    stage.come("LonghandFirstDraftLate", "LonghandCompletionLate")
    stage.kill("gpu")
    stage.submit(degrade_after=1)
    stage.come("LonghandDegrades")
    stage.start("gpu")


def poison_and_silence(stage: Rehearsal) -> None:
    """One recording kills who works on it; a worker is killed that holds eight chunks; and refining is slow."""
    stage.submit(hotwords=[POISON])

    def revive() -> None:
        for name in WORKERS:
            if not stage.running[name].running:
                stage.start(name)

    stage.come("LonghandDeadSteps", meanwhile=revive)
    revive()
    stage.kill("gpu")
    slow = [stage.submit(cost=1.05 * RECORDING_SECONDS) for _ in range(10)]
    until(lambda: stage.refinements(StepState.READY) >= 8, "a whole batch waits", seconds=LIMIT_SECONDS)
    stage.start("gpu")
    until(lambda: stage.refinements(StepState.LEASED) >= 8, "the worker holds it", seconds=LIMIT_SECONDS)
    stage.kill("gpu")
    stage.start("gpu")
    # each of them alone from now on, and slower than it was spoken
    stage.come("LonghandLeasesExpire", "LonghandSlowerThanSpeech")
    for job in slow:
        with contextlib.suppress(LonghandError):  # it may be finished by now
            stage.client.jobs.cancel(job)


def full_disk(stage: Rehearsal) -> None:
    """Uploads are refused, by 507."""
    filler = stage.disk / "filler"
    room = shutil.disk_usage(stage.disk)
    with filler.open("wb") as file:
        file.truncate(0)
        for _ in range((room.free - room.total // 16) // 2**20):
            file.write(bytes(2**20))

    def upload() -> None:
        with contextlib.suppress(LonghandError):
            stage.submit()

    stage.come("LonghandDiskFull", "LonghandApiErrors", meanwhile=upload)
    filler.unlink()


def no_database(stage: Rehearsal) -> None:
    stage.servers["postgres"].stop()
    stage.come("LonghandDatabaseUnreadable", "LonghandHealingFails")
    stage.servers["postgres"].start()


def authority(valid: timedelta) -> bytes:
    """A certificate, as PEM, which ends by then."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s3")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + valid)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def canary(stage: Rehearsal) -> str:
    """A tuned model without files, only there to be taken back."""
    with stage.sessions.begin() as session:
        row = versions.register(
            session,
            "default",
            Role.DRAFT,
            uuid.uuid4(),
            engine="sensevoice-onnx",
            finetune_id=None,
            base="sensevoice-small",
            metrics={},
            files={},
            rejection=None,
        )
    return str(row.id)


@contextlib.contextmanager
def failing_receiver() -> Iterator[str]:
    """The address of a receiver of webhooks that answers 500."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(500)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """In memory, so that filling it fills nothing else."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of Prometheus' pages; needs Chromium")
    pictures = parser.parse_args().pictures
    expected = {
        (rule["alert"], rule["labels"]["severity"])
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    with TemporaryDirectory() as name, small_disk(Path(name) / "disk") as disk:
        stage = Rehearsal(Path(name), disk)
        try:
            rehearse(stage, pictures)
        finally:
            stage.stop()
        missing = expected - stage.seen.keys()
        print(json.dumps({"came and went": len(stage.seen), "never came": sorted(missing)}))  # noqa: T201
        return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
