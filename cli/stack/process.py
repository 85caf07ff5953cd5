"""One supervised child process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from db.private_files import UMASK, make_private_folder

HOST = "127.0.0.1"
FREE_PORTS = range(12_000, 32_000)
PR_SET_PDEATHSIG = 1

LOG_BYTES = 50 * 1024 * 1024
"""A longer log is put aside when its process starts; of those the last is kept."""

# loaded before any fork: the child may not import anything between fork and exec
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class StackError(Exception):
    """The stack cannot run. The message is one sentence for the person who started it."""


class Account(NamedTuple):
    """A system user."""

    uid: int
    gid: int


def run_as(account: Account | None) -> dict[str, Any]:
    """Arguments of ``subprocess`` that switch to the account, dropping our groups."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def free_port() -> int:
    """A port to listen on soon, below those that outgoing connections take meanwhile."""
    while True:
        port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def local_url(host: str, port: int, scheme: str = "http") -> str:
    """The URL that reaches a listener on this address from this machine."""
    reached = {"": HOST, "0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104  (compared)
    return f"{scheme}://[{reached}]:{port}" if ":" in reached else f"{scheme}://{reached}:{port}"


def port_taken(port: int, host: str = HOST) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # as the servers themselves do: a port in TIME_WAIT can be had
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


class Process:
    """A child in a process group of its own, which dies with us even if we are killed.

    Subclasses define what to run and when it is ready; ``start`` returns once it is.
    """

    name: str
    stop_signal = signal.SIGTERM
    start_seconds = 30.0
    stop_seconds = 10.0
    stops_together = False
    """Whether it may stop beside others, or only after all that were started later."""

    def __init__(self, log: Path | None) -> None:
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL; empty if nobody connects to it."""
        return ""

    @property
    def env(self) -> dict[str, str]:
        """``LONGHAND_*`` variables that lead other processes here."""
        return {}

    @property
    def account(self) -> Account | None:
        """The user to run as, if not this one."""
        return None

    @property
    def working_directory(self) -> Path | None:
        """The working directory, if not this one."""
        return None

    def command(self) -> Sequence[str]:
        """The command line. It holds no secret, since every local user can read it."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def prepare(self) -> None:
        """Create what must exist before the process starts."""

    def ready(self) -> bool:
        return self.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._child.poll() if self._child else None

    def spawn(self) -> None:
        """Start the child without waiting for it to be ready."""
        self.prepare()
        with contextlib.ExitStack() as stack:
            output = None
            if self.log is not None:
                make_private_folder(self.log.parent)
                if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                    self.log.replace(self.log.with_suffix(".log.1"))
                private = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                output = stack.enter_context(os.fdopen(private, "ab"))
            self._child = subprocess.Popen(  # noqa: S603  (our own command line)
                list(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env=dict(self.environment()),
                cwd=self.working_directory,
                umask=UMASK,
                start_new_session=True,
                preexec_fn=self._follow_parent,
                **run_as(self.account),
            )

    def start(self) -> None:
        """Start and wait until ready. Raises StackError with the log's last lines."""
        self.spawn()
        self.wait_ready()

    def wait_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """``meanwhile`` is called again and again, and ends the wait by raising something."""
        deadline = time.monotonic() + self.start_seconds
        while not self.ready():
            meanwhile()
            if not self.running:
                code = self.exit_code
                raise StackError(f"{self.name} stopped while starting (exit code {code}).{self.tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {self.start_seconds:.0f} s.{self.tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Terminate, wait, then kill the rest of the group."""
        self.ask_to_stop()
        self.wait_stopped(self.stop_seconds)

    def ask_to_stop(self) -> None:
        if self._child is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(self.stop_signal)

    def wait_stopped(self, seconds: float) -> None:
        if self._child is None:
            return
        try:
            self._child.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def tail(self, lines: int = 8) -> str:
        """The end of the log, to be appended to a message."""
        if self.log is None or not self.log.exists():
            return ""
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n" + "\n".join(f"    {line}" for line in last) + f"\n    (log: {self.log})"

    def _follow_parent(self) -> None:
        _prctl(PR_SET_PDEATHSIG, int(self.stop_signal))
