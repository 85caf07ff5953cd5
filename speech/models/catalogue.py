"""The catalogue of models (``models.toml``) and the local folder that holds them. Downloads nothing."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from speech.engines import EngineUnavailable

CATALOGUE_FILE = Path(__file__).with_name("models.toml")
FETCHED_FILE = "fetched.json"
"""In a model's folder: the hash of each file when it was fetched."""
PARITY_FILE = "parity.json"
"""In a model's folder: the comparison with its original, as :class:`Parity`."""
ORIGINAL_PURPOSE = "original"
"""The purpose of models that are only exported from."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    path: str
    size: int | None = None
    sha256: str | None = None
    """None where only the hub publishes the file: the first download is then the reference."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that has a model: a ``hub``, a ``wheel``, an installed ``package``, or an ``export``."""

    kind: str
    url: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """The hub's names of files, where they differ."""
    exporter: str = ""
    """A module of ``speech.conversion.export``, which exports the model ``original``."""
    original: str = ""
    wheels: tuple[str, ...] = ()
    package: str = ""
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each file the members of the package or wheel that are concatenated into it."""


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    purpose: str
    title: str
    licence: str
    files: tuple[ModelFile, ...]
    sources: tuple[Source, ...]
    required: bool = False
    wanted: bool = False
    """Fetched with the required ones where it is available."""
    stand_in: str | None = None
    """The model used where this one is absent."""

    @property
    def size(self) -> int | None:
        sizes = [file.size for file in self.files]
        return sum(size for size in sizes if size) if all(sizes) else None


@dataclass(frozen=True, slots=True)
class Parity:
    """The result of a model's parity gate: its export compared with the PyTorch original on this machine."""

    gate: str
    passed: bool
    finding: str
    files: Mapping[str, str]
    """The hash of each file that was compared."""


def read_catalogue(path: Path = CATALOGUE_FILE) -> dict[str, Model]:
    """All models by name, in the order of the file."""
    entries = tomllib.loads(path.read_text())["model"]
    return {entry["name"]: _model(entry) for entry in entries}


def _model(entry: dict[str, object]) -> Model:
    files = tuple(ModelFile(**file) for file in entry.pop("files"))  # type: ignore[attr-defined]
    sources = tuple(
        Source(
            **{
                **source,
                "wheels": tuple(source.get("wheels", ())),
                "members": {path: tuple(members) for path, members in source.get("members", {}).items()},
            }
        )
        for source in entry.pop("source")  # type: ignore[attr-defined]
    )
    return Model(files=files, sources=sources, **entry)  # type: ignore[arg-type]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Catalogue:
    """All models, and a local folder with one subfolder for each model present."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = read_catalogue()

    def path(self, name: str) -> Path:
        return self.folder / name

    def present(self, name: str) -> bool:
        """Whether all files exist at their full size; :meth:`verify` checks hashes."""
        model = self.models[name]
        return all(self._is_complete(self.path(name) / file.path, file) for file in model.files)

    @staticmethod
    def _is_complete(path: Path, file: ModelFile) -> bool:
        return path.is_file() and (file.size is None or path.stat().st_size == file.size)

    def locate(self, name: str) -> Path:
        """The folder of a model that is present and did not fail its parity gate. Raises EngineUnavailable."""
        if name not in self.models:
            known = ", ".join(self.models)
            raise EngineUnavailable(f"There is no model {name!r} in the catalogue; it has {known}.")
        if not self.present(name):
            raise EngineUnavailable(
                f"The model {name} is not in {self.folder}: run `longhand models pull {name}`."
            )
        parity = self.parity(name)
        if parity is not None and not parity.passed:
            raise EngineUnavailable(
                f"The model {name} is refused: it failed its parity gate {parity.gate} ({parity.finding})."
            )
        return self.path(name)

    def parity(self, name: str) -> Parity | None:
        """The result of the model's parity gate, or None where it did not run."""
        path = self.path(name) / PARITY_FILE
        return Parity(**json.loads(path.read_text())) if path.is_file() else None

    def write_parity(self, name: str, gate: str, passed: bool, finding: str) -> None:
        """Record a gate's result: a model that failed is unavailable until it is exported again."""
        folder = self.path(name)
        files = {file.path: sha256(folder / file.path) for file in self.models[name].files}
        parity = Parity(gate, passed, finding, files)
        (folder / PARITY_FILE).write_text(json.dumps(asdict(parity), indent=1))

    def verify(self, name: str) -> Iterator[str]:
        """One sentence for each file that is missing or has the wrong hash."""
        fetched = self.fetched_hashes(name)
        for file in self.models[name].files:
            path = self.path(name) / file.path
            expected = file.sha256 or fetched.get(file.path)
            if not path.is_file():
                yield f"{path} is missing"
            elif expected is not None and sha256(path) != expected:
                yield f"{path} does not have its checksum {expected[:12]}…"

    def fetched_hashes(self, name: str) -> dict[str, str]:
        path = self.path(name) / FETCHED_FILE
        return dict(json.loads(path.read_text())) if path.is_file() else {}
