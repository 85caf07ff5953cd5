"""The protos: their generated code is current, and what was released of them stays."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live.stages.protos import RELEASED, ROOT, describe, generate, generated


def test_generated_code_is_current(tmp_path: Path) -> None:
    generate(tmp_path)
    assert generated(ROOT) == generated(tmp_path), "run `make protos`"


def test_what_was_released_stays() -> None:
    now = describe()
    for name, released in json.loads(RELEASED.read_text()).items():
        kept = {key: now.get(name, {}).get(key) for key in released}
        assert kept == released, f"{name}: clients and servers of earlier versions speak the old form"
