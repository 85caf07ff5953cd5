"""Who may import whom. Every import counts, also those inside functions and under TYPE_CHECKING."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "cli", "db", "live", "longhand", "migrations", "http_engines", "speech", "tasks", "workers")

# The half of `speech` that loads no model and reads no audio.
PURE = (
    "speech.text",
    "speech.models.names",
    "speech.asr.alignment",
    "speech.speakers.labels",
    "speech.training.dataset.filters",
    "speech.training.dataset.text",
)

# Of the models behind HTTP, what is listed of them and whether they answer: no engine.
LISTED = ("http_engines.endpoints", "http_engines.look")

# The floors of packages, from the ground: a room may import the rooms below it, never those beside or above it.
FLOORS = {
    "speech": (
        ("text",),
        ("engines",),
        ("models",),
        ("audio",),
        ("asr", "meaning", "speakers"),
        ("load",),
        ("calibration", "conversion"),
        ("training",),
    ),
    "live": (
        ("agreement", "audio", "events", "metrics", "protocol", "stages", "utterances"),
        ("hearing", "inprocess", "messages", "sources", "wire"),
        ("remote",),
        ("assembly",),
        ("serve", "services"),
        ("connection", "recording"),
        ("session",),
        ("sessions",),
        ("native", "realtime"),
        ("app",),
        ("__main__",),
    ),
}
ROOMS = [(package, room) for package, floors in FLOORS.items() for rooms in floors for room in rooms]

# A package may import itself and what is named here, with everything below it.
ALLOWED: dict[str, tuple[str, ...]] = {
    "speech": (),
    "db": (),
    "longhand": (),
    "migrations": ("db",),
    "http_engines": ("speech",),
    "tasks": ("http_engines", "speech", "db"),
    "workers": ("tasks", "http_engines", "speech", "db"),
    "api": ("db", "tasks.queue", *LISTED, *PURE),
    "live": (
        *("api.access", "api.guard", "api.problems", "api.schemas", "api.__main__"),
        *("api.options", "api.uploads.limits", "api.uploads.unfetched"),
        *("tasks.queue", "tasks.flow", "http_engines.endpoints", "speech", "db"),
    ),
    "cli": (
        "longhand",
        *("db.settings", "db.exposure", "db.private_files", "db.recordings"),
        *("speech.models.catalogue", "speech.engines"),
    ),
}

RUNS_MODELS = ("models", "audio/vad", "audio/denoise.py", "asr", "speakers", "conversion", "training/tuning")
MODEL_RUNTIMES = ("ctranslate2", "faster_whisper", "funasr", "onnxruntime", "pyannote", "torch", "vllm")


def imports(source: str) -> Iterator[str]:
    """Full names of everything that a module imports: ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the arrow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def violations(package: str, source: str) -> list[str]:
    ours = [name for name in imports(source) if name.split(".")[0] in (*PACKAGES, "tests", "benchmarks")]
    allowed = (package, *ALLOWED[package])
    return [name for name in ours if not any(within(name, target) for target in allowed)]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_arrow_but_the_allowed(package: str) -> None:
    found = {str(path.relative_to(ROOT)): violations(package, path.read_text()) for path in modules(package)}
    assert found, f"{package} has no modules"
    assert {path: names for path, names in found.items() if names} == {}


def rooms_above(package: str, room: str) -> tuple[str, ...]:
    """The rooms of a package that this one may not import."""
    floors = FLOORS[package]
    floor = next(number for number, rooms in enumerate(floors) if room in rooms)
    return tuple(other for rooms in floors[floor:] for other in rooms if other != room)


@pytest.mark.parametrize(("package", "room"), ROOMS)
def test_rooms_import_only_what_is_below_them(package: str, room: str) -> None:
    place = ROOT / package / room
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in paths:
        wrong = [
            name
            for name in imports(path.read_text())
            if any(within(name, f"{package}.{above}") for above in rooms_above(package, room))
        ]
        assert wrong == [], path


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(package: str) -> None:
    there = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == {room for owner, room in ROOMS if owner == package}


@pytest.mark.parametrize("package", PACKAGES)
def test_models_are_loaded_by_engines_alone(package: str) -> None:
    for path in modules(package):
        if any(path.is_relative_to(ROOT / "speech" / part) for part in RUNS_MODELS):
            continue
        used = [name for name in imports(path.read_text()) if name.split(".")[0] in MODEL_RUNTIMES]
        assert used == [], path


def test_torch_is_in_an_extra_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [
        name for name in project["dependencies"] if name.startswith(("torch", "funasr", "pyannote", "vllm"))
    ]
    for name in ("requirements.lock", "docker/requirements.lock"):
        assert not re.search(r"^(torch|nvidia|funasr|vllm)", (ROOT / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_serves_imports_neither_exports_nor_gates_nor_tuning(package: str) -> None:
    offline = ("conversion", "training.tuning")
    for path in modules(package):
        if not any(path.is_relative_to(ROOT / "speech" / part.replace(".", "/")) for part in offline):
            names = imports(path.read_text())
            assert not [name for name in names if any(within(name, f"speech.{part}") for part in offline)], path


# Modules of the API that may look across tenants, and what for. All others get sessions of one tenant.
ACROSS_TENANTS = {
    "api/__main__.py": "asks before it listens whether there are keys",
    "api/access/audit_log.py": "records who gave no valid credential too",
    "api/access/directory.py": "keeps a copy of all keys and tenants",
    "api/app.py": "opens the connections",
    "api/dependencies.py": "defines both kinds of sessions",
    "api/events.py": "compares the numbers of all streams with one query",
    "api/health.py": "asks whether Postgres answers",
    "api/routes/audit.py": "shows those who run the server what callers without a valid credential tried",
    "api/routes/keys.py": "shows those who run the server the keys of all",
    "api/routes/queues.py": "shows those who run the server the queue of all",
    "api/routes/tenants.py": "lists and limits tenants, for those who run the server",
    "api/uploads/receive.py": "counts what waits in the whole queue",
}
# Ways to a session, a connection or a query that is not held to a tenant.
UNSCOPED = (
    *("db.session.Sessions", "db.session.make_sessions", "db.tenancy.TenantSession"),
    *("sqlalchemy.create_engine", "sqlalchemy.orm.sessionmaker", "sqlalchemy.engine", "psycopg"),
)


def ways_around_tenants(source: str) -> list[str]:
    """Mentions of sessions across tenants, and imports by which a module could make some of its own."""
    mentioned = [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in ("across_tenants", "get_bind", "bind")
    ]
    return mentioned + [
        name for name in imports(source) if any(within(name, way) or within(way, name) for way in UNSCOPED)
    ]


def test_the_api_looks_across_tenants_in_named_places_alone() -> None:
    found = {str(path.relative_to(ROOT)) for path in modules("api") if ways_around_tenants(path.read_text())}
    assert found == set(ACROSS_TENANTS)


@pytest.mark.parametrize(
    ("source", "ways"),
    [
        ("def f(services):\n    with services.across_tenants() as s: ...", ["across_tenants"]),
        ("from db.session import make_sessions", ["db.session.make_sessions"]),
        ("def f():\n    import psycopg", ["psycopg"]),
        ("from db import session", ["db.session"]),
        ("from sqlalchemy.orm import Session, sessionmaker", ["sqlalchemy.orm.sessionmaker"]),
        ("def f(session):\n    session.get_bind().connect()", ["get_bind"]),
        ("def f(services, tenant):\n    with services.for_tenant(tenant)() as s: ...", []),
    ],
)
def test_the_checker_sees_ways_around_tenants(source: str, ways: list[str]) -> None:
    assert ways_around_tenants(source) == ways


@pytest.mark.parametrize("entry", ["api.app", "live.app", "workers.__main__"])
def test_processes_load_no_torch_and_the_api_no_model_runtime(entry: str) -> None:
    banned = MODEL_RUNTIMES if entry.startswith("api") else ("torch", "funasr", "vllm")
    script = f"import sys, {entry}; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "source", "wrong"),
    [
        ("speech", "from db.settings import Settings", ["db.settings.Settings"]),
        ("api", "def f():\n    from tasks import draft", ["tasks.draft"]),
        ("api", "from tasks.queue import send_hints", []),
        ("api", "import speech.asr.whisper", ["speech.asr.whisper"]),
        ("cli", "from db.models import Job", ["db.models.Job"]),
        ("db", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tasks", ["tasks"]),
        ("tasks", "import numpy, speech.audio.flac", []),
        ("speech", "from http_engines.pool import Pool", ["http_engines.pool.Pool"]),
        ("http_engines", "from db.settings import Settings", ["db.settings.Settings"]),
        ("api", "import http_engines.engines", ["http_engines.engines"]),
    ],
)
def test_the_checker_sees_what_it_should(package: str, source: str, wrong: list[str]) -> None:
    assert violations(package, source) == wrong
