"""``python -m speech.conversion.parity.without_torch MODELS RECORDING``: the pipeline without PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

BLOCKED = ("torch", "torchaudio", "funasr", "modelscope", "transformers")


class Block(MetaPathFinder):
    """Refuses the import of these packages, installed or not."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in BLOCKED:
            raise ImportError(f"{fullname} is blocked")
        return None


def main() -> None:
    sys.meta_path.insert(0, Block())
    from speech.conversion.parity.pipeline import transcribe  # noqa: PLC0415  (what it imports is what is tested)

    text = transcribe(Path(sys.argv[1]), Path(sys.argv[2]))
    loaded = sorted(set(sys.modules) & set(BLOCKED))
    if loaded or not text:
        raise SystemExit(f"loaded: {loaded}, text: {text!r}")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
