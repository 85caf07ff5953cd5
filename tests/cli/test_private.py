"""What other users of the machine can read: neither files nor command lines."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.stack import postgres
from cli.stack.postgres import Postgres, postgres_account, postgres_programs, programs_for
from cli.stack.product import Flower
from cli.stack.server import kept_password
from cli.stack.services import S3, Redis
from cli.stack.stack import environment_of
from db.private_files import make_private_folder, write_private
from longhand import Client
from tests.cli.test_up import FREE, LONGHAND
from tests.conftest import MODELS
from tests.files import files_under
from tests.media import DATA
from tests.waiting import LIMIT_SECONDS

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run as another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def is_open(path: Path) -> bool:
    """Whether group or others may do anything with it; not once it is gone, as files of running servers go."""
    try:
        return not path.is_symlink() and bool(mode(path) & 0o077)
    except FileNotFoundError:
        return False


def open_to_others(folder: Path) -> list[str]:
    """What group or others may do anything with."""
    inside = [Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)]
    return [str(path.relative_to(folder.parent)) for path in (folder, *inside) if is_open(path)]


@pytest.fixture(params=[0o000, 0o077], ids=["umask 0", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """That of whoever starts things; children inherit it."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only we may pass, as a home folder is."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o700)
    return folder


@pytest.mark.parametrize("umask", [0o000], ids=["umask 0"], indirect=True)
def test_a_run_leaves_nothing_that_others_read(umask: int, closed: Path, tmp_path: Path) -> None:
    data, saved = closed / "data", tmp_path / "saved"
    parents = {folder: mode(folder) for folder in data.parents}
    environment = os.environ | {"LONGHAND_MODELS_DIR": str(MODELS)}
    process = subprocess.Popen(
        [str(LONGHAND), "up", "--data-dir", str(data), *FREE],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Longhand is up"):
                break
        else:
            pytest.fail("".join(said))
        secrets = {file.read_text() for file in data.glob("*.password")}
        assert len(secrets) == 4
        children = psutil.Process(process.pid).children(recursive=True)
        lines = [" ".join(child.cmdline()) for child in children]
        assert len(lines) >= 9
        assert not [line for line in lines if any(secret in line for secret in secrets)]
        (url,) = re.findall(r"^api +(\S+)", "".join(said), re.MULTILINE)
        client = Client(url)
        job_id = client.jobs.submit(DATA / "jfk.flac")["id"]
        assert [event.type for event in client.jobs.events(job_id)][-1] == "job.completed"
        assert environment_of(data)
        done = subprocess.run(
            [str(LONGHAND), "backup", str(saved), "--data-dir", str(data)], check=False, timeout=LIMIT_SECONDS
        )
        assert done.returncode == 0
        for folder in (data, saved):
            assert open_to_others(folder) == []
        assert {"postgres", "redis", "s3", "logs", "beat", "environment.json"} <= {
            path.name for path in data.iterdir()
        }
        assert [path for path in files_under(data / "s3/longhand/jobs") if path.suffix == ".flac"]
        assert list(data.glob("logs/*.log"))
        assert {folder: mode(folder) for folder in parents} == parents
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_SECONDS)
    assert open_to_others(data) == []


def test_no_command_line_holds_a_password(tmp_path: Path) -> None:
    """Some servers overwrite theirs once they run, so that a look at them would come too late."""
    for server in (Postgres(tmp_path / "postgres"), Redis(tmp_path / "redis"), S3(tmp_path / "s3")):
        assert len(server.password) == 32
        assert server.password not in " ".join(server.command())
    flower = Flower({}, None, port=5555, password="secret-of-flower")
    assert flower.environment()["FLOWER_BASIC_AUTH"] == "longhand:secret-of-flower"
    assert "secret-of-flower" not in " ".join(flower.command())


def test_what_was_open_before_is_closed(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "environment.json"
    folder.mkdir()
    folder.chmod(0o755)
    file.write_text("{}")
    file.chmod(0o644)
    make_private_folder(folder)
    write_private(file, "secret")
    assert (mode(folder), mode(file), file.read_text()) == (0o700, 0o600, "secret")


def test_a_password_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "password").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        kept_password(tmp_path / "password")
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that everybody may pass, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
def test_programs_where_only_root_may_go_are_copied(
    closed: Path, passable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    installed = postgres_programs()
    package = installed.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        subprocess.run(["cp", "-a", str(part), str(closed)], check=True)
    monkeypatch.setattr(postgres, "postgres_programs", lambda: closed / installed.relative_to(package.parent))
    programs = programs_for(postgres_account(), passable / "postgres")
    assert programs.is_relative_to(passable)
    assert programs_for(postgres_account(), passable / "postgres") == programs
    assert mode(closed) == 0o700
    server = Postgres(tmp_path / "database")
    server.programs = programs
    server.start()
    server.stop()
