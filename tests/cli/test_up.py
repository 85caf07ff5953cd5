"""`longhand up` as a person uses it: one terminal, one Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from cli.stack.process import HOST, Process, StackError
from cli.stack.stack import PORTS
from cli.stack.supervisor import MAX_STARTS, Stop, Stopped, Supervisor
from tests.waiting import LIMIT_SECONDS, until

LONGHAND = Path(sys.executable).parent / "longhand"
FREE = [f"--{name}-port=0" for name in PORTS]


def up(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(LONGHAND), "up", "--data-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # whoever runs the tests in the background has children ignore it
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A stack without workers, which need no test of their own here, once the last of them has started."""
    process = up(tmp_path, "--only", "postgres,redis,s3,api,beat", *getattr(request, "param", ()), *FREE)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("beat"):
            break
    yield process
    process.kill()
    process.wait()


def gone(children: Sequence[psutil.Process]) -> bool:
    return not psutil.wait_procs(children, timeout=LIMIT_SECONDS)[1]


@pytest.mark.parametrize("running", [["--observe"]], indirect=True)
def test_what_observes_is_started_or_told_where_to_look(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert running.stdout is not None
    line = next(line for line in running.stdout if line.startswith("prometheus"))
    if shutil.which("prometheus") is None:
        assert "Point yours at 127.0.0.1:" in line
        return
    url = line.split()[1]
    rules = httpx.get(f"{url}/api/v1/rules").json()["data"]["groups"]
    assert {group["name"] for group in rules} == {"longhand", "longhand-objectives"}

    def jobs() -> set[str]:
        targets = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
        return {target["labels"]["job"] for target in targets}

    until(lambda: jobs() == {"longhand-api"}, "it asks the API")
    # its password for the processes is nobody else's to read
    assert (tmp_path / "metrics.password").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_everything(running: subprocess.Popen[str], number: signal.Signals) -> None:
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) >= 5
    running.send_signal(number)
    assert running.wait(LIMIT_SECONDS) == 0
    assert gone(children)


def test_nothing_outlives_a_killed_supervisor(running: subprocess.Popen[str]) -> None:
    children = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    assert gone(children)


def test_a_second_stack_in_the_same_folder(running: subprocess.Popen[str], tmp_path: Path) -> None:
    second = up(tmp_path, *FREE)
    output, _ = second.communicate(timeout=LIMIT_SECONDS)
    assert second.returncode == 1
    assert "Another stack runs in" in output


def refused(folder: Path, *arguments: str) -> str:
    process = up(folder, *arguments)
    output, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 1
    assert "Traceback" not in output
    return " ".join(output.split())


def test_a_taken_port_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(tmp_path, *FREE[1:], "--api-port", str(port))
    assert f"Port {port} for api is taken" in said
    assert "--api-port" in said


def test_a_part_that_does_not_exist(tmp_path: Path) -> None:
    assert "There is no part kitchen; choose among postgres" in refused(tmp_path, "--only", "kitchen")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::"])
def test_what_others_reach_asks_for_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    said = refused(tmp_path / "data", *FREE, "--host", host)
    assert said == (
        f"The API does not listen on {host} without API keys: set LONGHAND_API_KEYS to a JSON object "
        '{"key": "tenant"}, or use --host 127.0.0.1.'
    )
    monkeypatch.setenv("LONGHAND_API_KEYS", '{"key": "acme"}')
    said = refused(tmp_path / "data", *FREE, "--host", host)
    assert said == (
        f"Flower does not listen on {host} without credentials: set FLOWER_BASIC_AUTH=USER:PASSWORD, "
        "or use 127.0.0.1."
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (("api", "--host", "0.0.0.0", "--port", "0"), "LONGHAND_API_KEYS"),
        (("live", "--host", "0.0.0.0", "--port", "0"), "LONGHAND_API_KEYS"),
        (("workers", "flower"), "FLOWER_BASIC_AUTH"),
    ],
)
def test_processes_started_alone_ask_for_the_same(
    command: tuple[str, ...], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGHAND_FLOWER_HOST", "0.0.0.0")
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert variable in sentence


def test_parts_without_their_servers(tmp_path: Path) -> None:
    assert "LONGHAND_DATABASE_URL must say where it runs" in refused(tmp_path, "--only", "api,cpu")


def test_a_model_that_is_not_there_stops_the_start_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGHAND_REFINE_MODEL", "huge")
    said = refused(tmp_path, *FREE)
    assert "The gpu worker cannot start: There is no model 'whisper-huge' in the catalogue" in said


class Dummy(Process):
    """A child that does what a line of Python says."""

    name = "dummy"

    def __init__(self, code: str, log: Path) -> None:
        super().__init__(log)
        self._code = code

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self._code]


DIES = "import time; print('boom', flush=True); time.sleep(0.05); raise SystemExit(3)"


def test_what_dies_is_restarted_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.stack.supervisor.RESTART_PAUSE_SECONDS", 0.01)
    deaths: list[str] = []

    def hear(line: str) -> None:
        if "died (exit code 3)" in line:
            deaths.append(line)
        if len(deaths) == 2 * MAX_STARTS:
            supervisor.finish()

    supervisor = Supervisor(hear, poll=0.01)
    supervisor.start(Dummy(DIES, tmp_path / "log"))
    supervisor.watch()
    supervisor.stop()
    assert "boom" in deaths[0]
    assert str(tmp_path / "log") in deaths[0]


class ReadyOnce(Dummy):
    """Is ready when started first, and never again."""

    spawned = 0

    def spawn(self) -> None:
        self.spawned += 1
        super().spawn()

    def ready(self) -> bool:
        return self.spawned == 1


def test_what_will_not_start_again_ends_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.stack.supervisor.RESTART_PAUSE_SECONDS", 0.01)
    supervisor = Supervisor(lambda line: None, poll=0.01)
    supervisor.start(ReadyOnce(DIES, tmp_path / "log"))
    with pytest.raises(StackError, match=f"dummy failed to start {MAX_STARTS} times"):
        supervisor.watch()
    supervisor.stop()


def test_one_that_starts_slowly_does_not_keep_others_waiting(tmp_path: Path) -> None:
    class Slow(ReadyOnce):
        name = "slow"

    again: list[str] = []

    def hear(line: str) -> None:
        if line.startswith("dummy") and line.endswith("again"):
            again.append(line)
            supervisor.finish()

    supervisor = Supervisor(hear, poll=0.01)
    slow = Slow("import time; time.sleep(600)", tmp_path / "slow.log")
    other = Dummy("import time; time.sleep(600)", tmp_path / "log")
    supervisor.start(slow)
    supervisor.start(other)
    slow.stop()
    other.stop()
    supervisor.watch()
    supervisor.stop()
    assert again


@pytest.fixture
def alarm() -> Iterator[Stop]:
    """Wanted at the next SIGALRM."""
    stop = Stop()
    before = signal.signal(signal.SIGALRM, stop.want)
    yield stop
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seconds", [0.001, 0.002, 0.005, 0.2])
def test_a_signal_at_any_moment_of_a_start_is_heard(tmp_path: Path, alarm: Stop, seconds: float) -> None:
    class Never(Dummy):
        def ready(self) -> bool:
            return False

    supervisor = Supervisor(lambda line: None, alarm)
    # the first ones meet the fork, around which Python loses what a handler raises
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with pytest.raises(Stopped):
        supervisor.start(Never("import time; time.sleep(600)", tmp_path / "log"))
    supervisor.stop()


def test_a_child_that_will_not_stop_is_killed_with_its_own_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('on', flush=True);"
        "time.sleep(600)"
    )
    dummy = Dummy(code, tmp_path / "log")
    dummy.stop_seconds = 0.2
    dummy.start()
    until(lambda: "on" in (tmp_path / "log").read_text())
    children = [psutil.Process(dummy.pid), *psutil.Process(dummy.pid).children(recursive=True)]
    assert len(children) == 2
    dummy.stop()
    assert gone(children)
