"""CTranslate2's ``model.bin``: its variables read, and replaced by others of the same shapes.

The layout is that of ctranslate2/specs/model_spec.py, version 6.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS_FILE = "model.bin"
WHISPER_HEAD_SIZE = 64
"""Dimensions of a head of attention, of every published Whisper: older files do not tell the number of heads."""
MIN_VERSION = 5
TYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
BFLOAT16 = 5
"""Which NumPy has not: the upper half of a float32."""

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def read_variables(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The variables whose names begin so, as float32; aliases included. Raises OSError, ValueError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        variables, aliases = _layout(data, path)
        aliases = {alias: name for alias, name in aliases.items() if alias.startswith(prefix)}
        wanted = {each.name for each in variables if each.name.startswith(prefix)} | set(aliases.values())
        tensors = {each.name: _read(data, each) for each in variables if each.name in wanted}
    named = tensors | {alias: tensors[name] for alias, name in aliases.items()}
    return {name: tensor for name, tensor in named.items() if name.startswith(prefix)}


def replace_variables(path: Path, target: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a copy of a file that has these values, in the file's own types. Raises ValueError.

    ``target`` must be another file. Variables that are not named keep their values.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        variables, _ = _layout(data, path)
        by_name = {each.name: each for each in variables}
        with target.open("wb") as output:
            output.write(data)
            for name, tensor in tensors.items():
                if name not in by_name or by_name[name].shape != tensor.shape:
                    raise ValueError(f"{path} has no variable {name} of the shape {tensor.shape}")
                type_ = TYPES.get(by_name[name].kind)
                if type_ is None or not np.issubdtype(type_, np.floating):
                    raise ValueError(f"{path} holds no float32 or float16: {name} cannot be replaced")
                output.seek(by_name[name].offset)
                output.write(np.ascontiguousarray(tensor, type_).tobytes())


def _read(data: mmap.mmap, variable: _Variable) -> Tensor:
    type_ = TYPES.get(variable.kind, np.uint16)
    values: NDArray[Any] = np.frombuffer(data, type_, variable.count, variable.offset)
    if variable.kind == BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    # a copy: nothing may point into the file once it is closed
    return np.array(values.reshape(variable.shape), np.float32)


def _layout(data: mmap.mmap, path: Path) -> tuple[list[_Variable], dict[str, str]]:
    """Where the variables lie, and the aliases with the names of what they stand for."""
    offset = 0

    def read(form: str) -> tuple[int, ...]:
        nonlocal offset
        try:
            values = struct.unpack_from("<" + form, data, offset)
        except struct.error as error:
            raise ValueError(f"{path} is no model of CTranslate2, or is cut off") from error
        offset += struct.calcsize("<" + form)
        return values

    def read_string() -> str:
        nonlocal offset
        (length,) = read("H")
        offset += length
        return data[offset - length : offset - 1].decode()

    def read_variables() -> Iterator[_Variable]:
        nonlocal offset
        for _ in range(read("I")[0]):
            name = read_string()
            shape = read("I" * read("B")[0])
            kind, size = read("BI")
            if kind not in TYPES and kind != BFLOAT16:
                raise ValueError(f"{path} holds numbers of an unknown kind: {kind}")
            yield _Variable(name, shape, kind, offset)
            offset += size

    (version,) = read("I")
    if version < MIN_VERSION:
        raise ValueError(f"{path} has CTranslate2's format {version}; {MIN_VERSION} or later is wanted")
    read_string(), read("I")
    variables = list(read_variables())
    return variables, {read_string(): read_string() for _ in range(read("I")[0])}
