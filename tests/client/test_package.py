"""The client can be installed alone."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.test_arrows import PACKAGES, imports, modules

ROOT = Path(__file__).parents[2]
DEPENDENCIES = {"anyio", "httpx", "httpx_sse"}
"""anyio comes with httpx."""


def project(file: Path) -> dict[str, object]:
    return dict(tomllib.loads(file.read_text())["project"])


def test_it_needs_little() -> None:
    names = {name.split(".")[0] for path in modules("longhand") for name in imports(path.read_text())}
    assert names - sys.stdlib_module_names - {"longhand"} == DEPENDENCIES
    alone, whole = project(ROOT / "longhand" / "pyproject.toml"), project(ROOT / "pyproject.toml")
    assert alone["version"] == whole["version"]
    assert set(alone["dependencies"]) < set(whole["dependencies"])  # type: ignore[call-overload]


def test_its_wheel_holds_it_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "longhand", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("longhand_client-*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    mine = {str(path.relative_to(ROOT)) for path in modules("longhand")} | {"longhand/py.typed"}
    assert files == mine
    script = f"import sys; sys.path[0] = {str(wheel)!r}; import longhand; print(longhand.__file__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, *loaded = done.stdout.split()
    assert place.startswith(str(wheel))
    assert not {*loaded} & ({*PACKAGES} - {"longhand"})
