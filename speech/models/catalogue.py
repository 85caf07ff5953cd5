"""The catalogue of models (``models.toml``) and the local folder they are kept in. Fetches nothing."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from speech.engines import EngineUnavailable

CATALOGUE = Path(__file__).with_name("models.toml")
RECORD = "fetched.json"
"""Beside a model's files: the hash of each as it was fetched."""
PARITY = "parity.json"
"""Beside a model's files: how it compared with its original, by :class:`Parity`."""
ORIGINAL = "original"
"""The purpose of models that serve nothing themselves: exports are made from them."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    path: str
    size: int | None = None
    sha256: str | None = None
    """None where only the hub knows: then what was fetched first is the reference."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that has a model: a ``hub``, a ``wheel``, an installed ``package``, or an ``export``."""

    kind: str
    url: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the hub calls a file, where it is not our name."""
    exporter: str = ""
    """A module of ``speech.conversion.export``, which makes the files from the model ``original``."""
    original: str = ""
    wheels: tuple[str, ...] = ()
    package: str = ""
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each file the members that hold it, to be joined in order."""


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
    """Fetched with the required ones where it can be had."""
    stand_in: str | None = None
    """The model that serves where this one is absent."""

    @property
    def size(self) -> int | None:
        sizes = [file.size for file in self.files]
        return sum(size for size in sizes if size) if all(sizes) else None


@dataclass(frozen=True, slots=True)
class Parity:
    """What a model's gate found when its export was compared with the PyTorch original on this machine."""

    gate: str
    passed: bool
    finding: str
    files: Mapping[str, str]
    """The hash of each file that was compared: of other files this says nothing."""


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Model]:
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
    """The models, and which of them lie in a folder, one subfolder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = read_catalogue()

    def path(self, name: str) -> Path:
        return self.folder / name

    def present(self, name: str) -> bool:
        """Whether all files are there at their full size; hashes are checked by :meth:`verify`."""
        model = self.models[name]
        return all(self._complete(self.path(name) / file.path, file) for file in model.files)

    @staticmethod
    def _complete(path: Path, file: ModelFile) -> bool:
        return path.is_file() and (file.size is None or path.stat().st_size == file.size)

    def locate(self, name: str) -> Path:
        """The folder of a model that may serve: all there, and refused by no gate. Raises EngineUnavailable."""
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
        """How the model compared with its original, or None where that was not measured on these files."""
        path = self.path(name) / PARITY
        return Parity(**json.loads(path.read_text())) if path.is_file() else None

    def write_parity(self, name: str, gate: str, passed: bool, finding: str) -> None:
        """Mark a model: one that failed is not served until it is made anew."""
        folder = self.path(name)
        files = {file.path: sha256(folder / file.path) for file in self.models[name].files}
        parity = Parity(gate, passed, finding, files)
        (folder / PARITY).write_text(json.dumps(asdict(parity), indent=1))

    def verify(self, name: str) -> Iterator[str]:
        """One sentence for each file that is missing or not what it should be."""
        record = self.record(name)
        for file in self.models[name].files:
            path = self.path(name) / file.path
            expected = file.sha256 or record.get(file.path)
            if not path.is_file():
                yield f"{path} is missing"
            elif expected is not None and sha256(path) != expected:
                yield f"{path} does not have its checksum {expected[:12]}…"

    def record(self, name: str) -> dict[str, str]:
        path = self.path(name) / RECORD
        return dict(json.loads(path.read_text())) if path.is_file() else {}
