"""``python -m speech.conversion.parity.without_torch MODELS RECORDING``: runs the pipeline without PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

BLOCKED_PACKAGES = ("torch", "torchaudio", "funasr", "modelscope", "transformers")


class ImportBlocker(MetaPathFinder):
    """Blocks the import of ``BLOCKED_PACKAGES``, installed or not."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in BLOCKED_PACKAGES:
            raise ImportError(f"{fullname} is blocked")
        return None


def main() -> None:
    sys.meta_path.insert(0, ImportBlocker())
    from speech.conversion.parity.pipeline import transcribe  # noqa: PLC0415  (its imports must come after the block)

    text = transcribe(Path(sys.argv[1]), Path(sys.argv[2]))
    loaded = sorted(set(sys.modules) & set(BLOCKED_PACKAGES))
    if loaded or not text:
        raise SystemExit(f"loaded: {loaded}, text: {text!r}")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
